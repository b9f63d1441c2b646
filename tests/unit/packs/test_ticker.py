"""What the Ticker pack sends, and when."""

from datetime import UTC, datetime

import msgspec
import pytest

from flyteops.errors import SettingsError
from flyteops.packs import ticker
from flyteops.sdk.testing import PackTester


def times(tester: PackTester) -> list[datetime]:
    assert all(event.name == "Tick" and set(event.payload) == {"time"} for event in tester.sent)
    return [datetime.fromisoformat(event.payload["time"]).astimezone(UTC) for event in tester.sent]


def at(minute: int, second: int = 0) -> datetime:
    return datetime(2024, 1, 1, 12, minute, second, tzinfo=UTC)


async def test_it_ticks_every_minute_and_first_after_one() -> None:
    async with PackTester(ticker.create({})) as tester:
        await tester.advance(59)
        assert times(tester) == []
        await tester.advance(121)
        assert times(tester) == [at(1), at(2), at(3)]


async def test_it_never_polls() -> None:
    async with PackTester(ticker.create({})) as tester:
        await tester.advance(120)
        assert not any(call.endswith("/take") for call in tester.server.requests)
        tick = {"name": "Tick", "payloadSchema": msgspec.json.schema(ticker.Tick)}
        assert tester.server.registrations == [
            {"name": "Ticker", "events": [tick], "commands": [], "links": []}
        ]


async def test_the_interval_can_be_set() -> None:
    async with PackTester(ticker.create({"FLYTE_TICKER_INTERVAL": "90s"})) as tester:
        await tester.advance(180)
        assert times(tester) == [at(1, 30), at(3)]


async def test_delays_do_not_add_up() -> None:
    async with PackTester(ticker.create({})) as tester:
        release = tester.server.hold(on="/events")
        await tester.advance(60)
        await tester.advance(20)
        release.set()
        await tester.advance(100)
        assert times(tester) == [at(1), at(2), at(3)]


async def test_a_tick_that_nobody_wants_before_the_next_is_left_out() -> None:
    async with PackTester(ticker.create({})) as tester:
        tester.server.hold(on="/events")
        await tester.advance(120)
        assert times(tester) == [at(2)]


async def test_the_time_is_written_in_the_local_zone() -> None:
    async with PackTester(ticker.create({})) as tester:
        await tester.advance(60)
        (event,) = tester.sent
    expected = at(1).astimezone().isoformat().replace("+00:00", "Z")
    assert event.payload == {"time": expected}


@pytest.mark.parametrize("interval", ["often", "0", "50ms"])
def test_an_interval_that_makes_no_sense_is_refused(interval: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ticker.create({"FLYTE_TICKER_INTERVAL": interval})
    assert [problem.path for problem in caught.value.problems] == ["FLYTE_TICKER_INTERVAL"]
