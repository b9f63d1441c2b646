"""Plain functions as handlers, and what a command tells while it runs."""

import asyncio
import logging
import threading
from queue import Queue

import pytest

from flyteops.errors import UnavailableError
from flyteops.sdk import Event, Pack, fatal
from flyteops.sdk.testing import PackTester


async def test_a_plain_function_that_blocks_holds_up_nothing_else() -> None:
    pack = Pack("P")
    done, release = pack.event("Done", payload=str), threading.Event()

    @pack.command(events=[done])
    def block(name: str, *, greeting: str = "Hello") -> Event:
        release.wait(10)
        return done(f"{greeting} {name}")

    @pack.command(events=[done])
    async def free() -> Event:
        return done("free")

    async with PackTester(pack) as tester:
        action_id = tester.server.ask("Block", {"name": "Ann"})
        assert await tester.run("Free") == done("free")
        assert tester.server.results.keys() != {action_id}
        release.set()
        await tester.server.until(lambda: action_id in tester.server.results)
        assert tester.server.results[action_id] == done("Hello Ann")


async def test_no_more_plain_functions_run_at_once_than_the_pack_allows() -> None:
    pack = Pack("P", concurrency=2)
    done, together = pack.event("Done", payload=None), threading.Barrier(2)

    @pack.command(events=[done])
    def meet() -> Event:
        together.wait(10)
        assert threading.current_thread().name.startswith("flyte-pack")
        return done()

    async with PackTester(pack) as tester:
        for _ in range(6):
            tester.server.ask("Meet")
        await tester.server.until(lambda: len(tester.server.results) == 6)
        assert list(tester.server.results.values()) == [done()] * 6


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bang"), "ValueError: bang"),
        (StopIteration(), "RuntimeError: StopIteration: "),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "Fail was cancelled by itself"),
    ],
)
async def test_what_a_plain_function_raises_is_fatal(error: BaseException, text: str) -> None:
    pack = Pack("P")

    @pack.command()
    def fail() -> Event:
        raise error

    async with PackTester(pack) as tester:
        assert await tester.run("Fail") == fatal(text)


async def test_a_plain_function_sends_events_and_reads_data() -> None:
    pack = Pack("P")
    done, seen = pack.event("Done", payload=str), pack.event("Seen", payload=None)

    @pack.command(events=[done])
    def look() -> Event:
        pack.wait_for(pack.send(seen()))
        return done(pack.wait_for(pack.data("word")))

    async with PackTester(pack) as tester:
        tester.server.data["word"] = "hello"
        assert await tester.run("Look") == done("hello")
        assert tester.sent == [seen()]


async def test_waiting_for_something_in_the_event_loop_is_refused_instead_of_standing_still() -> (
    None
):
    pack = Pack("P")
    done = pack.event("Done", payload=None)

    @pack.command(events=[done])
    async def look() -> Event:
        pack.wait_for(pack.sleep(1))
        return done()

    async with PackTester(pack) as tester:
        event = await tester.run("Look")
    assert event.payload.startswith(
        "RuntimeError: wait_for works in plain functions of a running pack only"
    )


@pytest.mark.parametrize("waits", ["again", "already"])
async def test_a_plain_function_that_is_broken_off_learns_of_it_where_it_waits(waits: str) -> None:
    pack = Pack("P", stop_timeout=0)
    started, told = threading.Event(), threading.Event()
    go_on = threading.Event()

    async def sleep() -> None:
        started.set()
        await pack.sleep(1)

    @pack.command()
    def work() -> Event:
        if waits == "again":
            started.set()
            go_on.wait(10)
        try:
            pack.wait_for(sleep())
        except asyncio.CancelledError:
            told.set()
            raise
        raise AssertionError

    async with PackTester(pack) as tester:
        tester.server.ask("Work")
        await asyncio.to_thread(started.wait, 10)
        await tester.stop()
        assert list(tester.server.results.values()) == [fatal("P was stopped before Work ended")]
        go_on.set()
        assert await asyncio.to_thread(told.wait, 10)


async def test_a_plain_function_that_was_given_to_others_keeps_its_place_until_it_ends() -> None:
    pack, started, go_on = Pack("P", concurrency=1), threading.Event(), threading.Event()
    done = pack.event("Done", payload=str)

    @pack.command(events=[done])
    def hang() -> Event:
        started.set()
        go_on.wait(10)
        return done("too late")

    @pack.command(events=[done])
    def answer() -> Event:
        return done("first" if not go_on.is_set() else "next")

    async with PackTester(pack) as tester:
        tester.server.fail(2, status=503, on="/heartbeat")
        lost = tester.server.ask("Hang", timeout=30)
        await asyncio.to_thread(started.wait, 10)
        await tester.advance(30)
        waiting = tester.server.ask("Answer")
        await tester.advance(0)
        assert set(tester.server.results) == {lost}
        go_on.set()
        await tester.server.until(lambda: waiting in tester.server.results)
        assert tester.server.results[waiting] == done("next")
        assert tester.server.results[lost].payload["reason"] == "lost"


# ----------------------------------------------------------------------------------------- progress


async def test_progress_is_told_in_order_and_before_the_result_but_keeps_nobody_waiting() -> None:
    pack = Pack("P")
    progressed, done = pack.event("Progressed", payload=int), pack.event("Done", payload=None)
    worked = asyncio.Event()

    @pack.command(events=[done])
    async def work() -> Event:
        for percent in range(0, 100, 10):
            await pack.progress(progressed(percent))
        worked.set()
        return done()

    async with PackTester(pack) as tester:
        release = tester.server.hold(on="/events")
        tester.server.ask("Work")
        await worked.wait()
        await tester.advance(0)
        assert (tester.sent, tester.server.results) == ([], {})
        release.set()
        await tester.server.until(lambda: tester.server.results)
        assert tester.sent == [progressed(percent) for percent in range(0, 100, 10)]
        assert list(tester.server.results.values()) == [done()]


async def test_progress_that_the_server_refuses_does_not_end_the_command(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pack = Pack("P")
    progressed, done = pack.event("Progressed", payload=int), pack.event("Done", payload=None)

    @pack.command(events=[done])
    def work() -> Event:
        for percent in (25, 50, 75):
            pack.wait_for(pack.progress(progressed(percent)))
        return done()

    async with PackTester(pack) as tester:
        tester.server.fail(status=400, on="/events")
        assert await tester.run("Work") == done()
        assert tester.sent == [progressed(50), progressed(75)]
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert warnings == ["the server refused progress (Progressed): The input is not valid."]


async def test_progress_is_of_a_declared_event_and_of_a_command() -> None:
    pack = Pack("P")
    done = pack.event("Done", payload=None)

    @pack.command(events=[done])
    async def work() -> Event:
        await pack.progress(Event("Other"))
        return done()

    async with PackTester(pack) as tester:
        assert await tester.run("Work") == fatal("the pack P does not declare the event Other")

    @pack.task
    async def idle() -> None:
        await pack.progress(done())

    with pytest.raises(RuntimeError, match="progress works in commands only"):
        async with PackTester(pack) as tester:
            await tester.next_sent()


async def test_progress_waits_when_very_much_is_on_its_way() -> None:
    pack = Pack("P")
    progressed, done = pack.event("Progressed", payload=int), pack.event("Done", payload=None)
    told = 0

    @pack.command(events=[done])
    async def work() -> Event:
        nonlocal told
        for told in range(1000):
            await pack.progress(progressed(told))
        return done()

    async with PackTester(pack) as tester:
        release = tester.server.hold(on="/events")
        tester.server.ask("Work")
        await tester.advance(0)
        assert told == 101  # a hundred wait, one is on its way
        release.set()
        await tester.server.until(lambda: tester.server.results)
        assert [event.payload for event in tester.sent] == list(range(1000))


# ------------------------------------------------------------------ threads and loops of the author


async def test_a_plain_command_may_bring_an_event_loop_of_its_own() -> None:
    pack = Pack("P")
    done, seen = pack.event("Done", payload=str), pack.event("Seen", payload=int)

    async def send() -> str:
        await asyncio.gather(pack.send(seen(1)), pack.send(seen(2)))
        await pack.progress(seen(3))
        return str(await pack.data("word"))

    @pack.command(events=[done])
    def look() -> Event:
        return done(asyncio.run(send()))

    async with PackTester(pack) as tester:
        tester.server.data["word"] = "hello"
        assert await tester.run("Look") == done("hello")
        assert sorted(event.payload for event in tester.sent) == [1, 2, 3]


async def test_a_thread_of_the_author_sends_events() -> None:
    pack = Pack("P")
    seen = pack.event("Seen", payload=int)
    outcomes: Queue[BaseException | None] = Queue()

    def callback() -> None:
        try:
            pack.wait_for(pack.send(seen(1)))
            asyncio.run(pack.send(seen(2)))
        except BaseException as error:
            outcomes.put(error)
            raise
        outcomes.put(None)

    @pack.task
    async def listen() -> None:
        threading.Thread(target=callback).start()

    async with PackTester(pack) as tester:
        assert await asyncio.to_thread(outcomes.get, timeout=10) is None
        assert [event.payload for event in tester.sent] == [1, 2]


@pytest.mark.parametrize("manner", ["wait_for", "run"])
async def test_a_thread_that_waits_when_the_pack_stops_learns_that_nothing_was_sent(
    manner: str,
) -> None:
    pack = Pack("P", stop_timeout=0)
    seen = pack.event("Seen", payload=int)
    outcomes: Queue[BaseException | None] = Queue()

    def callback() -> None:
        work = pack.sleep(1000)
        try:
            pack.wait_for(work) if manner == "wait_for" else asyncio.run(work)
        except BaseException as error:
            outcomes.put(error)

    async with PackTester(pack) as tester:
        sleep, asleep = tester.clock.sleep, asyncio.Event()

        async def watched(seconds: float) -> None:
            asleep.set()
            await sleep(seconds)

        tester.clock.sleep = watched  # type: ignore[method-assign]
        threading.Thread(target=callback).start()
        await asyncio.wait_for(asleep.wait(), 10)
    error = await asyncio.to_thread(outcomes.get, timeout=10)
    assert isinstance(error, UnavailableError)
    assert str(error) == "P stopped before this was done"
    with pytest.raises(RuntimeError, match="the pack is not running"):
        await asyncio.to_thread(lambda: pack.wait_for(pack.send(seen(1))))


async def test_a_thread_of_a_pack_that_runs_twice_must_say_which_run_it_belongs_to() -> None:
    pack = Pack("P")
    seen = pack.event("Seen", payload=int)
    outcomes: Queue[BaseException | None] = Queue()

    def callback() -> None:
        try:
            pack.wait_for(pack.send(seen(1)))
        except RuntimeError as error:
            outcomes.put(error)

    async with PackTester(pack), PackTester(pack):
        threading.Thread(target=callback).start()
        error = await asyncio.to_thread(outcomes.get, timeout=10)
    assert "runs 2 times in this process" in str(error)
