"""Where events come from, and what happens when it stops."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from flyteops.errors import ForbiddenError, InputError, UnavailableError
from flyteops.sdk import Event, Pack
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


async def test_a_source_that_fails_is_started_again_after_pauses_that_grow(caplog: pytest.LogCaptureFixture) -> None:
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
            "the source listen failed: ValueError: bang; trying again until it works"
        ]
        assert warnings[0].exc_info is not None
        assert "the source listen works again after 8 failed tries" in caplog.text


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
    with pytest.raises(TypeError, match="cannot be asked every 0 s"):
        pack.source(every=0)(block)
    pack.source(every=1)(block)
    with pytest.raises(InputError, match="block is declared already"):
        pack.source(every=1)(block)
