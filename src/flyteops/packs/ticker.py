"""Ticker: an event every minute, for flows that run regularly."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import msgspec

from flyteops.errors import UnavailableError
from flyteops.packs import run
from flyteops.sdk import Pack, Reader, seconds


class Tick(msgspec.Struct):
    """The payload of a tick: when it happened, RFC 3339 in the local time zone."""

    time: str


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack; `FLYTE_TICKER_INTERVAL` is the time between ticks, 60 s if not given."""
    reader = Reader(environ)
    interval = reader.read("FLYTE_TICKER_INTERVAL", _interval, 60.0)
    reader.finish()
    pack = Pack("Ticker")
    tick = pack.event("Tick", payload=Tick)

    @pack.source(every=interval, at_once=False)
    async def ticker() -> None:
        # The outage is logged already, and a late tick is of no use.
        with suppress(UnavailableError):
            await pack.send(tick(Tick(_rfc3339(pack.clock().now().astimezone()))), within=interval)

    return pack


def _rfc3339(instant: datetime) -> str:
    text = instant.isoformat()
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text


def _interval(text: str) -> float:
    interval = seconds(text)
    if interval < 0.1:
        message = f"{text!r} is shorter than 100ms"
        raise ValueError(message)
    return interval


if __name__ == "__main__":
    run("Ticker")
