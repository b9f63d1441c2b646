"""Where events come from, and what happens when it stops."""

import asyncio
import functools
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest

from flyteops.errors import FlyteError, ForbiddenError, InputError, UnavailableError
from flyteops.sdk import Event, EventType, Pack
from flyteops.sdk.health import Endpoint, Health, health_endpoint, run_checks
from flyteops.sdk.program import Program
from flyteops.sdk.source import STEADY
from flyteops.sdk.testing import PackTester


def counting() -> tuple[Pack, "Iterator[int]"]:
    return Pack("P"), iter(range(1, 100))


async def test_a_poller_is_asked_at_once_and_then_every_so_many_seconds() -> None:
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)

    @pack.source(every=60)
    async def count() -> Event:
        return counted(next(numbers))

    async with PackTester(pack) as tester:
        await tester.advance(59)
        assert tester.sent == [counted(1)]
        await tester.advance(61)
        assert tester.sent == [counted(1), counted(2), counted(3)]


@pytest.mark.parametrize("found", [None, [], (1,), [1, 2]])
async def test_a_poller_may_find_nothing_or_several_things(found: list[int] | None) -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=int)

    @pack.source(every=60)
    async def count() -> list[Event] | None:
        return None if found is None else [counted(each) for each in found]

    async with PackTester(pack) as tester:
        await tester.advance(59)
        assert tester.sent == [counted(each) for each in found or ()]


async def test_a_plain_function_or_a_generator_is_a_poller_too() -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=int)

    @pack.source(every=60)
    def plain() -> Event:
        return counted(1)

    @pack.source(every=60)
    def several() -> Iterator[Event]:
        yield counted(2)
        yield counted(3)

    @pack.source(every=60)
    async def awaiting() -> AsyncIterator[Event]:
        yield counted(4)

    async with PackTester(pack) as tester:
        await tester.server.until(lambda: len(tester.sent) == 4)
        assert sorted(event.payload for event in tester.sent) == [1, 2, 3, 4]


async def test_what_a_listener_yields_is_sent() -> None:
    pack = Pack("P")
    said, lines = pack.event("Said", payload=str), asyncio.Queue[str]()
    closed = []

    @pack.source()
    async def listen() -> AsyncIterator[Event]:
        try:
            while True:
                yield said(await lines.get())
        finally:
            closed.append(True)

    async with PackTester(pack) as tester:
        for text in ("one", "two"):
            lines.put_nowait(text)
            assert await tester.next_sent() == said(text)
        assert closed == []
    assert closed == [True]


async def test_a_source_that_fails_is_started_again_after_pauses_that_grow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)
    go_on = asyncio.Event()

    @pack.source()
    async def listen() -> AsyncIterator[Event]:
        if (number := next(numbers)) <= 8:
            message = "bang"
            raise ValueError(message)
        yield counted(number)
        await go_on.wait()

    async with PackTester(pack) as tester:
        await tester.advance(0)
        assert tester.sent == [counted(9)]
        for pause, most in zip(tester.clock.back_offs, [0.5, 1, 2, 4, 8, 16, 30, 30], strict=True):
            assert most / 2 <= pause <= most
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.getMessage() for record in warnings] == [
            "the source listen failed: ValueError: bang; retrying until it succeeds"
        ]
        assert warnings[0].exc_info is not None
        assert "the source listen works again after 8 failed attempts" in caplog.text


async def test_a_listener_that_ends_is_started_again() -> None:
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)
    blocked = asyncio.Event()

    @pack.source()
    async def listen() -> AsyncIterator[Event]:
        number = next(numbers)
        if number > 3:
            await blocked.wait()
        yield counted(number)

    async with PackTester(pack) as tester:
        await tester.advance(0)
        assert tester.sent == [counted(1), counted(2), counted(3)]
        assert len(tester.clock.back_offs) == 3


async def test_one_source_that_fails_disturbs_nothing_else() -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=int)

    @pack.source(every=60)
    async def broken() -> Event:
        raise UnavailableError("the other side is away")

    @pack.source(every=60)
    async def count() -> Event:
        return counted(1)

    @pack.command(events=[counted])
    async def answer() -> Event:
        return counted(2)

    async with PackTester(pack) as tester:
        assert await tester.run("Answer") == counted(2)
        await tester.advance(60)
        assert tester.sent == [counted(1), counted(1)]


async def test_health_tells_of_a_source_that_fails_until_it_has_worked_for_a_while() -> None:
    pack, numbers = counting()
    blocked = asyncio.Event()

    @pack.source(name="mailbox")
    async def listen() -> None:
        if next(numbers) == 1:
            raise UnavailableError("the server hung up")
        await blocked.wait()

    async with PackTester(pack) as tester:
        await tester.advance(0)
        assert await tester.health() == {"mailbox": "the server hung up"}
        await tester.advance(STEADY)
        assert await tester.health() == {}


async def test_what_a_person_must_mend_ends_the_pack() -> None:
    pack = Pack("P")

    @pack.source()
    async def listen() -> None:
        raise ForbiddenError("the token is not valid")

    tester = PackTester(pack)
    with pytest.raises(ForbiddenError, match="the token is not valid"):
        async with tester:
            await tester.next_sent()


async def test_what_has_worked_is_tried_again_whatever_it_says() -> None:
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)

    @pack.source(every=60)
    async def count() -> Event:
        if (number := next(numbers)) == 2:
            raise ForbiddenError("not now")
        return counted(number)

    async with PackTester(pack) as tester:
        await tester.advance(60)
        assert tester.sent == [counted(1), counted(3)]


async def test_a_poller_that_takes_long_leaves_turns_out_and_comes_back_to_its_time() -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=str)

    @pack.source(every=60)
    async def count() -> Event:
        await pack.sleep(90)
        return counted(pack.clock().now().strftime("%H:%M:%S"))

    async with PackTester(pack) as tester:
        await tester.advance(300)
        assert tester.sent == [counted("12:01:30"), counted("12:03:30")]


def test_a_source_that_cannot_work_is_refused_when_it_is_declared() -> None:
    pack = Pack("P")

    def block() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="a listener that blocks cannot be stopped"):
        pack.source()(block)
    with pytest.raises(TypeError, match="cannot be polled every 0 s"):
        pack.source(every=0)(block)
    pack.source(every=1)(block)
    with pytest.raises(InputError, match="block is declared already"):
        pack.source(every=1)(block)


# ------------------------------------------------------------------------- what libraries do inside


class PanicError(BaseException):
    """What a library in Rust raises when it panics."""


class MuteError(Exception):
    def __str__(self) -> str:
        message = "no text"
        raise ValueError(message)


ENDS = [
    asyncio.CancelledError(),
    PanicError("p"),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    StopIteration(),
    MuteError(),
]


@pytest.mark.parametrize("kind", ["generator", "coroutine", "poller", "thread"])
@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
async def test_a_source_that_ends_by_whatever_error_is_logged_and_started_again(
    kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)
    blocked = asyncio.Event()
    unhealthy: list[str] = []

    def find() -> Event:
        if (number := next(numbers)) == 1:
            raise error
        return counted(number)

    async def listen() -> AsyncIterator[Event]:
        yield find()
        await blocked.wait()

    async def send() -> None:
        await pack.send(find())
        await blocked.wait()

    async def poll() -> Event:
        return find()

    function = {"generator": listen, "coroutine": send, "poller": poll, "thread": find}[kind]
    pack.source(every=60 if kind in ("poller", "thread") else None, name="it")(function)
    async with PackTester(pack) as tester:
        health, back_off = tester.health, tester.clock.back_off

        async def pause(seconds: float) -> None:
            unhealthy.extend(await health())
            await back_off(seconds)

        tester.clock.back_off = pause  # type: ignore[method-assign]
        await tester.server.until(lambda: tester.sent)
        assert tester.sent == [counted(2)]
    assert len(tester.clock.back_offs) == 1
    assert "the source it failed: " in caplog.text


async def cancelled_once(numbers: Iterator[int]) -> int:
    """Cancel the own task at the first call."""
    if (number := next(numbers)) == 1:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()
    return number


@pytest.mark.parametrize("kind", ["generator", "coroutine", "poller"])
async def test_a_source_that_cancels_its_own_task_is_logged_and_started_again(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)

    async def listen() -> AsyncIterator[Event]:
        yield counted(await cancelled_once(numbers))
        await asyncio.Event().wait()

    async def send() -> None:
        await pack.send(counted(await cancelled_once(numbers)))
        await asyncio.Event().wait()

    async def poll() -> Event:
        async with asyncio.TaskGroup():  # it must not take the next call for cancelled, too
            return counted(await cancelled_once(numbers))

    function = {"generator": listen, "coroutine": send, "poller": poll}[kind]
    pack.source(every=60 if kind == "poller" else None, name="it")(function)
    async with PackTester(pack) as tester:
        await tester.server.until(lambda: tester.sent)
        assert tester.sent == [counted(2)]
    assert "the source it failed: it was cancelled by its own code" in caplog.text


async def raises_cancelled() -> None:
    raise asyncio.CancelledError


async def cancels_itself() -> None:
    await cancelled_once(iter([1]))


@pytest.mark.parametrize("end", [raises_cancelled, cancels_itself])
async def test_a_task_that_is_cancelled_from_inside_ends_the_pack_with_the_reason(
    end: Callable[[], Awaitable[None]],
) -> None:
    pack = Pack("P")

    @pack.task
    async def work() -> None:
        await end()

    with pytest.raises(FlyteError, match="work was cancelled by its own code"):
        async with PackTester(pack) as tester:
            await tester.next_sent()


async def test_a_check_that_raises_whatever_it_likes_makes_the_pack_unhealthy_and_nothing_else() -> (
    None
):
    pack = Pack("P")
    for error in (asyncio.CancelledError("c"), PanicError("p"), SystemExit(1), MuteError()):

        def declare(error: BaseException) -> None:
            @pack.check(type(error).__name__)
            async def check() -> str:
                raise error

        declare(error)
    async with PackTester(pack) as tester:
        assert await tester.health() == {
            "CancelledError": "CancelledError: c",
            "PanicError": "PanicError: p",
            "SystemExit": "SystemExit: 1",
            "MuteError": "MuteError: (its text cannot be read: ValueError)",
        }


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("status", [400, 409, 413])
@pytest.mark.parametrize("kind", ["list", "generator", "thread"])
async def test_an_event_that_the_server_refuses_does_not_hold_up_those_behind_it(
    status: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=int)

    async def poll() -> list[Event]:
        return [counted(1), counted(2), counted(3)]

    async def generate() -> AsyncIterator[Event]:
        for event in await poll():
            yield event

    def plain() -> list[Event]:
        return [counted(1), counted(2), counted(3)]

    pack.source(every=60, name="counts")(
        {"list": poll, "generator": generate, "thread": plain}[kind]
    )
    tester = PackTester(pack)
    tester.server.fail(status=status, on="/events")
    async with tester:
        await tester.server.until(lambda: len(tester.sent) == 2)
        await tester.advance(0)
        assert tester.sent == [counted(2), counted(3)]
        assert tester.clock.back_offs == []
        assert await tester.health() == {}
        (session,) = [tester._session]
        assert session is not None
        status_text = (await session.health())["counts"].status
        assert status_text.startswith("working; refused events: 1, the last of them Counted: ")
        tester.server.fail(status=status, on="/events")
        await tester.advance(60)
        await tester.server.until(lambda: len(tester.sent) == 4)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert errors[0].startswith(
        "the event Counted of the source counts was refused and is dropped: "
    )
    assert errors[0].endswith("; its payload: 1")


async def test_an_event_that_is_not_declared_ends_a_pack_that_has_never_worked() -> None:
    pack = Pack("P")

    @pack.source(every=60)
    async def count() -> Event:
        return Event("Other")

    with pytest.raises(InputError, match="the pack P does not declare the event Other"):
        async with PackTester(pack) as tester:
            await tester.next_sent()


async def test_what_is_not_an_event_is_named() -> None:
    pack = Pack("P")

    @pack.source(every=60)
    async def count() -> list[str]:
        return ["one"]

    with pytest.raises(InputError, match="the source count returned str, not an event"):
        async with PackTester(pack) as tester:
            await tester.next_sent()


# ------------------------------------------------------------------------------------------ silence


async def test_a_poller_that_hangs_is_unhealthy_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pack, numbers = counting()
    counted = pack.event("Counted", payload=int)
    go_on = asyncio.Event()

    @pack.source(every=60)
    async def count() -> Event:
        if (number := next(numbers)) == 2:
            await go_on.wait()
        return counted(number)

    async with PackTester(pack) as tester:
        await tester.advance(60 + 119)
        assert await tester.health() == {}
        await tester.advance(11)
        assert await tester.health() == {
            "count": "silent for 130 s: it hangs, or the input that it waits for is missing"
        }
        assert caplog.text.count("the source count has been silent for 120 s") == 1
        go_on.set()
        await tester.advance(0)
        assert await tester.health() == {}
        assert tester.sent == [counted(1), counted(2)]


async def test_a_plain_function_that_hangs_is_seen_too() -> None:
    pack, release = Pack("P"), threading.Event()

    @pack.source(every=60, timeout=30)
    def count() -> None:
        release.wait(10)

    async with PackTester(pack) as tester:
        await tester.advance(31)
        assert list(await tester.health()) == ["count"]
        release.set()


async def test_a_listener_may_be_silent_for_as_long_as_it_says() -> None:
    pack, lines = Pack("P"), asyncio.Queue[str]()
    said = pack.event("Said", payload=str)

    @pack.source(timeout=300)
    async def listen() -> AsyncIterator[Event]:
        while True:
            yield said(await lines.get())

    @pack.source(timeout=300)
    async def send() -> None:
        while True:
            await pack.sleep(200)
            await pack.send(said("alive"))

    @pack.source()
    async def patient() -> None:
        await asyncio.Event().wait()

    async with PackTester(pack) as tester:
        await tester.advance(299)
        assert await tester.health() == {}
        await tester.advance(100)
        assert list(await tester.health()) == ["listen"]
        lines.put_nowait("one")
        await tester.advance(1)
        assert await tester.health() == {}


async def test_a_source_whose_events_wait_for_the_server_is_not_silent() -> None:
    pack = Pack("P")
    counted = pack.event("Counted", payload=int)

    @pack.source(every=60)
    async def count() -> Event:
        return counted(1)

    tester = PackTester(pack)
    release = tester.server.hold(on="/events")
    async with tester:
        await tester.advance(1000)
        assert await tester.health() == {}
        release.set()
        await tester.advance(0)


def test_a_limit_is_a_time() -> None:
    async def listen() -> None:
        raise AssertionError

    with pytest.raises(
        TypeError, match="cannot have the timeout 0; it must be more than 0 seconds"
    ):
        Pack("P").source(timeout=0)(listen)


# -------------------------------------------------------------------- names, and kinds of functions


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return wrapper


async def well() -> str:
    return "fine"


def test_every_entry_of_health_has_a_name_of_its_own() -> None:
    pack = Pack("P")
    pack.check("Disk")(well)
    pack.source(every=60, name="mailbox")(well)
    with pytest.raises(InputError, match="the check Disk is declared already"):
        pack.check("Disk")
    with pytest.raises(InputError, match="the check DefaultCheck is declared already"):
        pack.check("DefaultCheck")
    with pytest.raises(InputError, match="the source mailbox is declared already"):
        pack.check("mailbox")
    for taken in ("Disk", "DefaultCheck", "mailbox"):
        with pytest.raises(InputError, match=f"the source {taken} needs another name"):
            pack.source(every=60, name=taken)(well)


def test_one_event_has_one_type_of_payload() -> None:
    pack = Pack("P")
    pack.event("Done", payload=int)
    other = EventType("Done", str)

    async def handler() -> Event:
        raise AssertionError

    with pytest.raises(
        InputError, match="the event Done is declared already, with another payload"
    ):
        pack.command("Do", events=[other])(handler)
    assert pack.declaration().commands == {}


async def test_wrapped_functions_and_instances_are_sources_tasks_and_checks() -> None:
    pack = Pack("P")
    seen, begun = pack.event("Seen", payload=str), asyncio.Event()

    class Check:
        async def __call__(self) -> str:
            message = "full"
            raise ValueError(message)

    async def poll(word: str) -> Event:
        return seen(word)

    async def listen() -> AsyncIterator[Event]:
        yield seen("listened")
        await asyncio.Event().wait()

    async def begin() -> None:
        begun.set()

    pack.source(every=60)(functools.partial(traced(poll), "polled"))
    pack.source()(traced(listen))
    pack.task(traced(begin))
    pack.check("Disk")(Check())
    pack.check("Net")(traced(well))

    async with PackTester(pack) as tester:
        async with asyncio.timeout(10):
            await tester.server.until(lambda: len(tester.sent) == 2)
        assert {event.payload for event in tester.sent} == {"polled", "listened"}
        assert begun.is_set()
        assert await tester.health() == {"Disk": "ValueError: full"}


async def test_a_check_that_cancels_itself_does_not_keep_back_the_others() -> None:
    pack = Pack("P")

    @pack.check("Net")
    async def net() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError

    @pack.check("Generator")
    async def generator() -> str:
        raise GeneratorExit

    async with PackTester(pack) as tester:
        assert await tester.health() == {
            "Net": "it was cancelled by its own code",
            "Generator": "GeneratorExit: ",
        }


async def test_a_check_that_takes_too_long_is_reported_with_its_limit() -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def fail() -> str:
        message = "of its own"
        raise TimeoutError(message)

    health = await run_checks({"Net": hang, "Disk": fail}, 0.01)
    assert health["Net"].status == "it did not end within 0.01 seconds"
    assert health["Disk"].status == "TimeoutError: of its own"


async def test_health_is_reported_whatever_the_text_of_a_fault_is() -> None:
    async def report() -> dict[str, Health]:
        if faults:
            raise faults.pop()
        return {"Disk": Health(healthy=False, status="half a character: \ud800")}

    faults = [ValueError("boom")]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with (
        health_endpoint(Endpoint(port, is_fixed=True), report),
        httpx2.AsyncClient() as client,
    ):
        answers = [await client.get(f"http://127.0.0.1:{port}/") for _ in range(2)]
    assert [each.status_code for each in answers] == [500, 500]
    assert (
        answers[0].json()["DefaultCheck"]["status"] == "health cannot be reported: ValueError: boom"
    )
    assert answers[1].json() == {"Disk": {"healthy": False, "status": "half a character: \\ud800"}}


async def test_a_refusal_inside_of_a_group_ends_the_pack_as_it_does_alone() -> None:
    pack = Pack("P")

    @pack.source(every=60)
    async def poll() -> None:
        message = "tasks"
        raise ExceptionGroup(message, [ForbiddenError("the token is wrong")])

    with pytest.raises(ExceptionGroup) as caught:
        async with PackTester(pack) as tester:
            await tester.next_sent()
    assert isinstance(caught.value.exceptions[0], ForbiddenError)


def test_a_program_names_the_causes_in_a_group(caplog: pytest.LogCaptureFixture) -> None:
    async def serve(_: asyncio.Event) -> None:
        message = "unhandled errors in a TaskGroup"
        raise ExceptionGroup(message, [ValueError("bang"), FlyteError("no")])

    assert Program("P", serve).run() == 1
    assert (
        caplog.records[-1]
        .getMessage()
        .endswith("unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: bang; no")
    )


async def test_a_program_inside_of_an_event_loop_or_a_thread_is_refused_with_another_way() -> None:
    pack = Pack("P")
    with pytest.raises(
        RuntimeError,
        match=r"inside of a running event loop, such as that of a notebook: use `await pack.serve",
    ):
        pack.run({"FLYTE_API": "http://flyte.test"})
    with pytest.raises(RuntimeError, match="in the main thread only"):
        await asyncio.to_thread(pack.run, {"FLYTE_API": "http://flyte.test"})
