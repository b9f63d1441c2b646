"""What a type checker makes of a pack: `make check` reads this file with mypy, and nothing runs it.

Each `type: ignore` stands for an error that an author must be shown: mypy fails when it is not
there.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import assert_type

from flyteops.sdk import Environment, Event, EventType, Pack, Reader, fatal, seconds
from flyteops.sdk.testing import PackTester, run_command


@dataclass
class Order:
    """A payload."""

    number: int


pack = Pack("Orders", labels={"shop": "1"}, items=["prices"])
placed = pack.event("Placed", Order)
emptied = pack.event("Emptied", None)
anything = pack.event("Anything")


def events() -> None:
    assert_type(placed, EventType[Order])
    assert_type(emptied, EventType[None])
    assert_type(placed(Order(1)), Event)
    assert_type(emptied(), Event)
    assert_type(anything([1, 2], failure=True), Event)
    assert_type(fatal("broken"), Event)
    placed("1")  # type: ignore[arg-type]
    placed()  # type: ignore[call-arg]
    Pack(1)  # type: ignore[arg-type]


@pack.command(events=[placed])
async def place(order: Order) -> Event:
    """Decorators keep the type of a function, so that it can be called in a test."""
    await pack.progress(emptied())
    assert_type(await pack.give_back(), bool)
    return placed(order)


@pack.command("Empty", events=[emptied])
def empty() -> Event:
    """A plain function: it runs in a thread."""
    assert_type(pack.wait_for(pack.give_back()), bool)
    return emptied()


@pack.source(every=5)
async def poll() -> list[Event]:
    """A poller."""
    await pack.send(placed(Order(2)), within=3, key="2")
    await pack.send("Placed")  # type: ignore[arg-type]
    return []


@pack.source()
async def listen() -> AsyncIterator[Event]:
    """A listener."""
    yield emptied()


@pack.task
async def work() -> None:
    """Background work."""
    await pack.sleep(1)


@pack.check("shop")
async def check() -> str:
    """A health check."""
    return "open"


@pack.task  # type: ignore[type-var]
def blocks() -> None:
    """A task is a coroutine function."""


async def decorated() -> None:
    assert_type(await place(Order(1)), Event)
    assert_type(empty(), Event)
    assert_type(await poll(), list[Event])
    await place("1")  # type: ignore[arg-type]


def configured(environ: dict[str, str]) -> None:
    reader = Reader(environ)
    assert_type(reader.read("SHOP_TIMEOUT", seconds, None), float | None)
    assert_type(reader.require("SHOP_PORT", int, "the port", 0), int)
    assert_type(Environment.read(environ), Environment)
    pack.run(environ)


async def tried() -> None:
    async with PackTester(pack) as tester:
        assert_type(await tester.run("Place", {"number": 1}), Event)
        assert_type(await tester.next_sent(), Event)
    assert_type(run_command(pack, "Empty"), Event)
