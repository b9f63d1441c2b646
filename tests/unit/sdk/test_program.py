"""A pack as a program: errors that end an event loop at once do not end its work."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

from flyteops.sdk.program import Program


async def leave(error: BaseException) -> None:
    raise error


Fault = Callable[[asyncio.Event], Awaitable[None]]


def in_a_task(error: BaseException) -> Fault:
    async def fault(stop: asyncio.Event) -> None:
        # The awaiting code gets it, like any other error of a task.
        with pytest.raises(type(error)):
            await asyncio.create_task(leave(error))
        assert not stop.is_set()
        stop.set()

    return fault


def in_a_group(error: BaseException) -> Fault:
    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(error))
            group.create_task(asyncio.Event().wait())

    async def fault(stop: asyncio.Event) -> None:
        with pytest.raises(type(error)):
            await work()
        assert not stop.is_set()
        stop.set()

    return fault


def in_a_callback(code: object) -> Fault:
    async def fault(_stop: asyncio.Event) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, code)

    return fault


@pytest.mark.parametrize("place", [in_a_task, in_a_group])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_in_a_task_goes_to_the_code_that_awaits_it_and_the_pack_goes_on(
    place: Callable[[BaseException], Fault], error: BaseException
) -> None:
    done: list[str] = []

    async def serve(stop: asyncio.Event) -> None:
        await place(error)(stop)
        done.append("served")

    assert Program("P", serve).run() == 0
    assert done == ["served"]


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (None, 0), ("no licence", 1)])
def test_an_exit_elsewhere_finishes_the_work_and_ends_with_its_code(
    code: object, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    async def serve(stop: asyncio.Event) -> None:
        await in_a_callback(code)(stop)
        await stop.wait()
        done.append("finished")

    assert Program("P", serve).run() == expected
    assert done == ["finished"]
    assert "finishing work in progress" in caplog.text
