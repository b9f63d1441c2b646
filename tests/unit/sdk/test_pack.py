"""What the author of a pack can rely on."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flyteops.errors import FlyteError, InputError, UnavailableError
from flyteops.sdk import Environment, Event, Pack, fatal
from flyteops.sdk.testing import PackTester


class Order(msgspec.Struct):
    item: str
    count: int = 1


def greeter() -> Pack:
    pack = Pack("Greeter")
    greeted = pack.event("Greeted", payload=str)

    @pack.command(events=[greeted])
    async def greet(name: str) -> Event:
        return greeted(f"Hello {name}")

    return pack


def answering(handler: Any, **options: Any) -> Pack:
    pack = Pack("P", **options)
    pack.command("Do", events=[pack.event("Done")])(handler)
    return pack


def done(payload: Any = None) -> Event:
    return Event("Done", payload)


async def test_a_command_is_run_with_its_input_and_answers_with_its_event() -> None:
    async with PackTester(greeter()) as tester:
        assert await tester.run("Greet", "Ann") == Event("Greeted", "Hello Ann")


async def test_the_registration_says_what_the_pack_can_do() -> None:
    pack = Pack("P", labels={"env": "dev"}, help_url="http://help.test/")
    done, seen = (
        pack.event("Done", payload=int),
        pack.event("Seen", help_url="http://help.test/seen"),
    )

    @pack.command(events=[done], help_url="http://help.test/do")
    async def do_it_now() -> Event:
        return done(1)

    async with PackTester(pack) as tester:
        assert tester.server.registrations == [
            {
                "name": "P",
                "labels": {"env": "dev"},
                "events": [
                    {"name": "Done", "payloadSchema": {"type": "integer"}},
                    {
                        "name": seen.name,
                        "links": [{"href": "http://help.test/seen", "rel": "help"}],
                    },
                ],
                "commands": [
                    {
                        "name": "DoItNow",
                        "events": ["Done"],
                        "links": [{"href": "http://help.test/do", "rel": "help"}],
                    }
                ],
                "links": [{"href": "http://help.test/", "rel": "help"}],
            }
        ]


async def test_the_environment_overrides_name_and_adds_labels() -> None:
    pack = Pack("Chat", labels={"env": "dev", "x": "1"})
    environment = Environment(
        api="http://flyte.test", name="Slack", labels={"env": "live"}, token="secret"
    )
    async with PackTester(pack, environment=environment) as tester:
        (registration,) = tester.server.registrations
        assert (registration["name"], registration["labels"]) == (
            "Slack",
            {"env": "live", "x": "1"},
        )
        assert set(tester.server.authorizations) == {"Bearer secret"}


async def test_input_is_decoded_to_the_annotated_type() -> None:
    async def handler(order: Order) -> Event:
        return done([order.item, order.count])

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do", {"item": "tea", "count": 2}) == done(["tea", 2])


@pytest.mark.parametrize("text", ["2", "2.000000"])
async def test_text_from_a_template_is_good_enough_for_a_number(text: str) -> None:
    async def handler(order: Order) -> Event:
        return done([order.item, order.count])

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do", {"item": 'say "3.000000"!', "count": text}) == done(
            ['say "3.000000"!', 2]
        )


async def test_text_that_looks_like_a_number_stays_text_where_text_is_wanted() -> None:
    async def handler(text: str) -> Event:
        return done(text)

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do", "2.000000") == done("2.000000")


async def test_wrong_input_is_fatal_and_says_what_and_where() -> None:
    async def handler(order: Order) -> Event:
        raise AssertionError

    async with PackTester(answering(handler)) as tester:
        event = await tester.run("Do", {"item": "tea", "count": "many"})
    assert event == fatal("the input of Do is not valid: count: must be a whole number, not text")


async def test_an_unknown_command_is_fatal() -> None:
    async with PackTester(greeter()) as tester:
        assert await tester.run("Shout") == fatal("Greeter has no command 'Shout'; it has: Greet")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bang"), "ValueError: bang"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "Do was cancelled by itself"),
        (FlyteError("no"), "no"),
    ],
)
async def test_whatever_a_handler_raises_becomes_fatal(
    error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Half a character in the report of a test cannot be passed between its processes.
    caplog.set_level(logging.CRITICAL)

    async def handler() -> Event:
        raise error

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do") == fatal(text)
        assert await tester.run("Do") == fatal(text)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda: None, "the command Do returned NoneType, not an event"),
        (lambda: Event("Other"), "the command Do returned Other, but declares Done"),
        (lambda: done(object()), "the payload of Done cannot be written as JSON: "),
        (lambda: done("\ud800"), "the payload of Done cannot be written as JSON: "),
    ],
)
async def test_a_result_that_cannot_be_sent_is_fatal_and_never_pending(
    result: Any, text: str
) -> None:
    async def handler() -> Any:
        return result()

    async with PackTester(answering(handler)) as tester:
        event = await tester.run("Do")
    assert event.name == "FATAL"
    assert event.payload.startswith(text)


async def test_a_payload_of_the_wrong_type_is_fatal() -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=int)

    @pack.command(events=[counted])
    async def count() -> Event:
        return counted("many")  # type: ignore[arg-type]

    async with PackTester(pack) as tester:
        event = await tester.run("Count")
    assert event == fatal("the payload of Counted is not valid: Expected `int`, got `str`")


async def test_a_handler_may_answer_fatal_itself() -> None:
    async def handler() -> Event:
        return fatal({"why": "because"})

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do") == Event("FATAL", {"why": "because"})


async def test_a_task_sends_events_until_the_pack_stops() -> None:
    pack = Pack("Clock")
    ticked = pack.event("Ticked", payload=str)

    @pack.task
    async def tick() -> None:
        while True:
            await pack.sleep(60)
            await pack.send(ticked(pack.clock().now().isoformat()))

    async with PackTester(pack) as tester:
        await tester.advance(59)
        assert tester.sent == []
        await tester.advance(61)
        assert tester.sent == [
            ticked("2024-01-01T12:01:00+00:00"),
            ticked("2024-01-01T12:02:00+00:00"),
        ]


async def test_a_task_that_fails_stops_the_pack() -> None:
    pack = Pack("P")
    begin = asyncio.Event()

    @pack.task
    async def work() -> None:
        await begin.wait()
        message = "broken"
        raise ValueError(message)

    with pytest.raises(ValueError, match="broken"):
        async with PackTester(pack):
            begin.set()


async def test_an_event_can_be_sent_while_a_command_runs() -> None:
    pack = Pack("P")
    progressed, done = pack.event("Progressed", payload=int), pack.event("Done", payload=None)

    @pack.command(events=[done])
    async def work() -> Event:
        await pack.send(progressed(50))
        return done()

    async with PackTester(pack) as tester:
        assert await tester.run("Work") == done()
        assert tester.sent == [progressed(50)]


async def test_an_undeclared_event_is_not_sent() -> None:
    pack = Pack("P")

    @pack.task
    async def work() -> None:
        await pack.send(Event("Other"))

    with pytest.raises(InputError, match="does not declare the event Other"):
        async with PackTester(pack) as tester:
            await tester.next_sent()


async def test_sending_gives_up_after_the_time_that_it_was_given() -> None:
    pack = Pack("P")
    seen = pack.event("Seen", payload=None)
    outcome: list[Exception] = []

    @pack.command(events=[seen])
    async def look() -> Event:
        try:
            await pack.send(seen(), within=60)
        except UnavailableError as error:
            outcome.append(error)
        return seen()

    async with PackTester(pack) as tester:
        tester.server.hold(on="/events")
        tester.server.ask("Look")
        await tester.advance(59)
        assert outcome == []
        await tester.advance(1)
    assert [str(error) for error in outcome] == ["the event Seen was not accepted within 60 s"]
    assert tester.sent == []


async def test_no_more_commands_run_at_once_than_the_pack_allows() -> None:
    running, most, release = 0, 0, asyncio.Event()

    async def handler() -> Event:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        return done()

    async with PackTester(answering(handler, concurrency=3)) as tester:
        for _ in range(7):
            tester.server.ask("Do")
        await tester.advance(0)
        # It asks for as many as it can run.
        assert len([call for call in tester.server.requests if call.endswith("/take")]) == 1
        release.set()
        await tester.server.until(lambda: len(tester.server.results) == 7)
    assert most == 3


async def test_stopping_takes_nothing_more_but_finishes_what_is_in_hand() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handler() -> Event:
        started.set()
        await release.wait()
        return done("in time")

    async with PackTester(answering(handler)) as tester:
        action_id = tester.server.ask("Do")
        await started.wait()
        stopping = asyncio.create_task(tester.stop())
        await tester.advance(0)
        tester.server.ask("Do")
        release.set()
        await stopping
        assert tester.server.results == {action_id: done("in time")}


async def test_a_command_that_does_not_end_in_time_is_broken_off_and_fatal() -> None:
    started = asyncio.Event()

    async def handler() -> Event:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with PackTester(answering(handler, stop_timeout=0)) as tester:
        tester.server.ask("Do")
        await started.wait()
        await tester.stop()
        assert list(tester.server.results.values()) == [fatal("P was stopped before Do ended")]


async def test_an_event_on_its_way_is_delivered_although_the_pack_stops() -> None:
    pack = Pack("P")
    seen = pack.event("Seen", payload=None)

    @pack.task
    async def look() -> None:
        await pack.sleep(1)
        await pack.send(seen())

    async with PackTester(pack) as tester:
        release = tester.server.hold(on="/events")
        await tester.advance(1)
        assert tester.sent == []
        stopping = asyncio.create_task(tester.stop())
        await tester.advance(0)
        release.set()
        await stopping
    assert tester.sent == [seen()]


async def test_one_pack_runs_twice_at_the_same_time() -> None:
    pack = greeter()
    async with PackTester(pack) as one, PackTester(pack) as two:
        assert await one.run("Greet", "Ann") == Event("Greeted", "Hello Ann")
        assert await two.run("Greet", "Bob") == Event("Greeted", "Hello Bob")
        assert len(one.server.results) == len(two.server.results) == 1


def test_tasks_and_checks_must_be_async() -> None:
    pack = Pack("P")

    def block() -> str:
        raise AssertionError

    for declare in (pack.task, pack.check("Disk")):
        with pytest.raises(TypeError, match="must be declared with `async def`"):
            declare(block)  # type: ignore[type-var]


def test_what_would_declare_nothing_or_something_else_is_refused() -> None:
    pack = Pack("P")

    async def greet() -> str:
        raise AssertionError

    wrong: list[tuple[Callable[..., object], str]] = [
        (lambda: pack.command(greet), "not a function; @pack.command.. has parentheses"),
        (lambda: pack.check(greet), r'not a function; as in @pack.check."Disk"'),
        (lambda: pack.command(events=pack.event("Done")), r"a list, such as .Done., not one"),
        (lambda: pack.event(5), "the name of an event is text, not int"),
        (lambda: Pack("P", items="chatops"), "a list of keys, such as .'chatops'., not text"),
        (lambda: Pack("P", labels={"replicas": 3}), "the label replicas is text, not int"),
    ]
    for declare, why in wrong:
        with pytest.raises(TypeError, match=why):
            declare()


def test_names_are_declared_once() -> None:
    pack = greeter()
    with pytest.raises(InputError, match="Greeted is declared already"):
        pack.event("Greeted")
    with pytest.raises(InputError, match="FATAL is declared already"):
        pack.event("FATAL")

    async def greet() -> Event:
        return done()

    with pytest.raises(InputError, match="Greet is declared already"):
        pack.command()(greet)


async def test_sending_outside_of_a_running_pack_says_so() -> None:
    pack = greeter()
    with pytest.raises(RuntimeError, match="the pack is not running"):
        await pack.send(Event("Greeted", "x"))


def test_events_are_equal_when_they_look_the_same_on_the_wire() -> None:
    assert Event("Placed", Order("tea")) == Event("Placed", {"item": "tea", "count": 1})
    assert Event("Placed", (1, 2)) == Event("Placed", [1, 2])
    assert Event("Placed", 1) != Event("Placed", 2)


async def test_an_event_that_means_failure_is_registered_so() -> None:
    pack = Pack("P")
    fine, broken = pack.event("Fine"), pack.event("Broken", failure=True)
    pack.command("Do", events=[fine, broken])(done)
    async with PackTester(pack) as tester:
        declared = {
            event["name"]: event.get("failure", False)
            for event in tester.server.registrations[0]["events"]
        }
    assert declared == {"Fine": False, "Broken": True}


async def test_the_result_of_an_event_that_is_declared_as_a_failure_is_marked() -> None:
    pack = Pack("P")
    broken = pack.event("Broken", failure=True)

    @pack.command("Do", events=[broken])
    async def do() -> Event:
        return broken("disk full")

    async with PackTester(pack) as tester:
        await tester.run("Do")
        assert tester.server.failed == set(tester.server.results)


@pytest.mark.parametrize("is_failure", [False, True])
async def test_a_result_may_say_that_it_means_failure(is_failure: bool) -> None:
    pack = Pack("P")
    ended = pack.event("Ended")

    @pack.command("Do", events=[ended])
    async def do(code: int) -> Event:
        return ended(code, failure=is_failure)

    async with PackTester(pack) as tester:
        assert await tester.run("Do", 3) == Event("Ended", 3)
        assert tester.server.failed == (set(tester.server.results) if is_failure else set())
