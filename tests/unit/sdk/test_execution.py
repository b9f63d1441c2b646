"""Whatever a command does, its action is answered."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from flyteops.retry import MAX_DESCRIPTION_LENGTH, describe
from flyteops.sdk import Event, Pack, fatal
from flyteops.sdk.client import Client
from flyteops.sdk.session import Session
from flyteops.sdk.testing import API, FakeServer, ManualClock, PackTester, settle

DONE = Event("Done")


class PanicError(BaseException):
    """What a library in Rust raises when it panics."""


class MuteError(Exception):
    def __str__(self) -> str:
        message = "no text"
        raise ValueError(message)

    __repr__ = __str__


class StubbornError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def answering(handler: Callable[..., Any], **options: Any) -> Pack:
    pack = Pack("P", **options)
    pack.command("Do", events=[pack.event("Done")])(handler)
    return pack


FAULTS = [
    (PanicError("index out of bounds"), "PanicError: index out of bounds"),
    (KeyboardInterrupt(), "KeyboardInterrupt: "),
    (SystemExit(3), "SystemExit: 3"),
    (GeneratorExit(), "GeneratorExit: "),
    (asyncio.CancelledError(), "Do was cancelled by itself"),
    (StopAsyncIteration(), "StopAsyncIteration: "),
    (StopIteration(), "RuntimeError: "),
    (MuteError(), "MuteError: (its text cannot be read: ValueError)"),
    (StubbornError(), "StubbornError: (its text cannot be read: KeyboardInterrupt)"),
    (MemoryError(), "MemoryError: "),
    (
        ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
        "ExceptionGroup: two (2 sub-exceptions): ValueError: a; KeyError: 'b'",
    ),
    (
        BaseExceptionGroup("one", [PanicError("p")]),
        "BaseExceptionGroup: one (1 sub-exception): PanicError: p",
    ),
]


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(("error", "text"), FAULTS)
async def test_whatever_a_command_raises_is_fatal_and_the_pack_goes_on(
    error: BaseException, text: str, threaded: bool
) -> None:
    def plain() -> Event:
        raise error

    async def awaited() -> Event:
        raise error

    async with PackTester(answering(plain if threaded else awaited)) as tester:
        for _ in range(2):
            event = await tester.run("Do")
            assert event.name == "FATAL"
            assert event.payload.removeprefix("RuntimeError: ").startswith(
                text.removeprefix("RuntimeError: ")
            )
        assert await tester.health() == {}


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_a_command_that_cancels_its_own_task_is_fatal_and_the_pack_goes_on() -> None:
    async def handler() -> Event:
        own_task().cancel()
        await asyncio.Event().wait()
        return DONE

    async with PackTester(answering(handler)) as tester:
        for _ in range(2):
            assert await tester.run("Do") == fatal("Do was cancelled by itself")
        assert await tester.health() == {}


@pytest.mark.parametrize("reports", [0, 3])
async def test_a_command_that_cancels_its_own_task_and_ends_is_answered_with_its_event(
    reports: int,
) -> None:
    async def handler() -> Event:
        for _ in range(reports):
            await pack.progress(Event("Half"))
        own_task().cancel()
        return DONE

    pack = answering(handler)
    pack.event("Half")
    async with PackTester(pack) as tester:
        assert await tester.run("Do") == DONE


async def test_an_error_of_generators_that_a_command_awaits_is_fatal() -> None:
    async def handler() -> Event:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(GeneratorExit())
        await future
        raise AssertionError

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do") == fatal("GeneratorExit: ")


def test_a_description_has_a_limit_and_says_so() -> None:
    text = describe(ValueError("x" * 1_000_000))
    assert len(text) == MAX_DESCRIPTION_LENGTH
    assert text.endswith("[cut: 1000012 characters]")
    assert (
        len(describe(ExceptionGroup("many", [ValueError("y" * 1000)] * 1000)))
        == MAX_DESCRIPTION_LENGTH
    )


def test_groups_within_groups_have_a_limit() -> None:
    group: Exception = ValueError("deep")
    for _ in range(500):
        group = ExceptionGroup("g", [group])
    assert describe(group).startswith("ExceptionGroup: g (1 sub-exception): ExceptionGroup: g")


async def test_a_huge_message_is_answered_with_its_beginning() -> None:
    async def handler() -> Event:
        message = "x" * 5_000_000
        raise ValueError(message)

    # The traceback in the log is as long as the message.
    logging.getLogger("flyte.pack").disabled = True
    try:
        async with PackTester(answering(handler)) as tester:
            event = await tester.run("Do")
    finally:
        logging.getLogger("flyte.pack").disabled = False
    assert len(event.payload) == MAX_DESCRIPTION_LENGTH


@pytest.mark.parametrize("change", [object(), float("nan"), {1, 2}, 10**400, "\ud800"])
async def test_a_payload_that_was_changed_after_it_was_checked_is_answered(change: Any) -> None:
    async def handler() -> Event:
        event = Event("Done", {"list": []})
        event.payload["list"].append(change)
        return event

    async with PackTester(answering(handler)) as tester:
        event = await tester.run("Do")
    assert event.name in ("Done", "FATAL")
    if event.name == "FATAL":
        assert "the payload of Done cannot be written as JSON" in event.payload


async def test_a_model_that_panics_while_it_is_written_is_fatal() -> None:
    class Model:
        @classmethod
        def model_validate(cls, value: object) -> "Model":
            return cls()

        def model_dump(self, **_: object) -> object:
            raise PanicError("while writing")

    async def handler() -> Event:
        return Event("Done", Model())

    async with PackTester(answering(handler)) as tester:
        assert await tester.run("Do") == fatal("PanicError: while writing")


async def test_a_fatal_whose_payload_is_refused_is_replaced_by_one_that_is_not() -> None:
    async def handler() -> Event:
        return fatal({"too": "much"})

    async with PackTester(answering(handler)) as tester:
        tester.server.fail(status=413, on="/result")
        assert await tester.run("Do") == fatal(
            "the server refused the result of Do: The input is too large."
        )


async def test_a_fault_of_the_clients_libraries_does_not_drop_a_result() -> None:
    class Broken(FakeServer):
        faults = 3

        async def handle_async_request(self, request: Any) -> Any:
            if request.url.path.endswith("/result") and self.faults:
                self.faults -= 1
                raise [RuntimeError("broken"), asyncio.CancelledError(), MuteError()][self.faults]
            return await super().handle_async_request(request)

    async def handler() -> Event:
        return DONE

    server = Broken()
    action_id = server.ask("Do")
    async with Client(API, transport=server) as client:
        session = Session(
            answering(handler, health_port=None).declaration(),
            client,
            ManualClock(datetime.now(UTC)),
        )
        running = asyncio.create_task(session.run())
        await server.until(lambda: action_id in server.results)
        session.stop()
        server.let_go()
        await running
    assert server.results == {action_id: DONE}


async def test_a_result_of_a_pack_that_was_deleted_meanwhile_is_handed_in_all_the_same() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler() -> Event:
        started.set()
        await go_on.wait()
        return DONE

    async with PackTester(answering(handler, concurrency=1)) as tester:
        action_id = tester.server.ask("Do")
        await started.wait()
        tester.server.forget_pack()
        go_on.set()
        await tester.server.until(lambda: action_id in tester.server.results)
        assert tester.server.results[action_id] == DONE
        assert len(tester.server.registrations) == 2


# --------------------------------------------------------------------------------- being broken off


async def test_a_command_that_swallows_cancellation_is_answered_with_fatal_when_the_pack_stops() -> (
    None
):
    go_on, cancelled = asyncio.Event(), asyncio.Event()

    async def handler() -> Event:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                cancelled.set()
        return DONE

    server = FakeServer()
    action_id = server.ask("Do")
    async with Client(API, transport=server) as client:
        declaration = answering(handler, stop_timeout=0, health_port=None).declaration()
        session = Session(declaration, client, ManualClock(datetime.now(UTC)), report_timeout=0.1)
        running = asyncio.create_task(session.run())
        await settle()
        session.stop()
        server.let_go()
        await running  # nothing is left to hand in
        assert cancelled.is_set()
        go_on.set()
        await settle()
    assert server.results == {action_id: fatal("P was stopped before Do ended")}


async def test_a_command_that_answers_cancellation_with_an_event_of_its_own_is_heard() -> None:
    started = asyncio.Event()

    async def handler() -> Event:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Event("Done", "half of it")
        raise AssertionError

    async with PackTester(answering(handler, stop_timeout=0)) as tester:
        tester.server.ask("Do")
        await started.wait()
        await tester.stop()
        assert list(tester.server.results.values()) == [Event("Done", "half of it")]


@pytest.mark.parametrize(
    "error", [PanicError("p"), KeyboardInterrupt(), SystemExit(1), MuteError()]
)
async def test_a_command_that_answers_cancellation_with_an_error_is_answered(
    error: BaseException,
) -> None:
    started = asyncio.Event()

    async def handler() -> Event:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None
        raise AssertionError

    async with PackTester(answering(handler, stop_timeout=0)) as tester:
        tester.server.ask("Do")
        await started.wait()
        await tester.stop()
        (event,) = tester.server.results.values()
        assert event == fatal(describe(error))


async def test_an_action_is_never_worked_on_twice_at_once_in_one_pack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running, most, begun, go_on = 0, 0, 0, asyncio.Event()

    async def handler() -> Event:
        nonlocal running, most, begun
        running, begun = running + 1, begun + 1
        most = max(most, running)
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        running -= 1
        return DONE

    async with PackTester(answering(handler)) as tester:
        action_id = tester.server.ask("Do", timeout=30, attempts=3)
        await tester.advance(0)
        tester.server.fail(2, status=503, on="/heartbeat")
        await tester.advance(31)  # lost, handed out once more, and the first attempt cancelled
        assert "waiting for its end" in caplog.text
        go_on.set()
        await tester.server.until(lambda: action_id in tester.server.results)
        # Of the first attempt, by the lease of the second.
        assert tester.server.results[action_id] == DONE
    assert (most, begun) == (1, 1)


async def test_a_thread_that_goes_on_is_waited_for_before_its_action_is_begun_again() -> None:
    running, most, begun = 0, 0, 0
    started, go_on = threading.Event(), threading.Event()

    def handler() -> Event:
        nonlocal running, most, begun
        running, begun = running + 1, begun + 1
        most = max(most, running)
        started.set()
        go_on.wait(10)
        running -= 1
        return DONE

    async with PackTester(answering(handler)) as tester:
        action_id = tester.server.ask("Do", timeout=30, attempts=3)
        await asyncio.to_thread(started.wait, 10)
        tester.server.fail(2, status=503, on="/heartbeat")
        await tester.advance(31)
        go_on.set()
        await tester.server.until(lambda: action_id in tester.server.results)
        assert tester.server.results[action_id] == DONE
    assert (most, begun) == (1, 2)


async def test_a_pack_that_is_thrown_away_in_the_middle_of_a_command_says_nothing() -> None:
    started = asyncio.Event()

    async def handler() -> Event:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with PackTester(answering(handler)) as tester:
        tester.server.ask("Do")
        await started.wait()
        serving = tester._serving
        assert serving is not None
        tester._serving = None
        serving.cancel()
        await asyncio.wait({serving})
        await settle()
        gc.collect()
        assert tester.server.results == {}


# ----------------------------------------------------------------------------------------- progress


async def test_progress_after_the_end_of_its_command_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pack = Pack("P")
    progressed, done = pack.event("Progressed", payload=int), pack.event("Done", payload=None)
    late: list[asyncio.Task[None]] = []
    go_on = asyncio.Event()

    async def tell_late() -> None:
        await go_on.wait()
        for number in range(200):
            await pack.progress(progressed(number))

    @pack.command(events=[done])
    async def work() -> Event:
        late.append(asyncio.create_task(tell_late()))
        await pack.progress(progressed(-1))
        return done()

    async with PackTester(pack) as tester:
        assert await tester.run("Work") == done()
        go_on.set()
        await late[0]
        await tester.advance(0)
        assert tester.sent == [progressed(-1)]
    assert "progress (Progressed) came after its command ended and is dropped" in caplog.text


async def test_progress_of_a_command_that_fails_comes_before_its_result() -> None:
    pack = Pack("P")
    progressed = pack.event("Progressed", payload=msgspec.Raw)
    counted = pack.event("Counted", payload=int)
    assert progressed.name == "Progressed"

    @pack.command(events=[counted])
    async def work() -> Event:
        for number in range(3):
            await pack.progress(counted(number))
        message = "bang"
        raise ValueError(message)

    async with PackTester(pack) as tester:
        release = tester.server.hold(on="/events")
        action_id = tester.server.ask("Work")
        await tester.advance(0)
        assert tester.server.results == {}
        release.set()
        await tester.server.until(lambda: action_id in tester.server.results)
        assert tester.sent == [counted(0), counted(1), counted(2)]
        assert tester.server.results[action_id] == fatal("ValueError: bang")


async def test_a_result_that_came_too_late_is_that_of_the_next_attempt_in_the_same_pack() -> None:
    begun = 0
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler() -> Event:
        nonlocal begun
        begun += 1
        started.set()
        await go_on.wait()
        return Event("Done", begun)

    async with PackTester(answering(handler, concurrency=1)) as tester:
        action_id = tester.server.ask("Do", timeout=30, attempts=3)
        await started.wait()
        for _ in range(2):
            tester.server.hold(on="/heartbeat")
        await tester.advance(29)
        release = tester.server.hold(on="/result")
        go_on.set()
        await tester.advance(2)  # the result is on its way when the action counts as lost
        release.set()
        await tester.server.until(lambda: action_id in tester.server.results)
        assert tester.server.results[action_id] == Event("Done", 1)
    assert begun == 1
