"""The record of events to which many flows listen: its size, and the time to ask why."""

import asyncio
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from bench.client import Connection, connect
from bench.goal import Figures
from bench.load import EVENT, SKIPPED, a_flow, a_service, cycles, fill_flows, some_flows
from bench.server import a_server, scratch
from flyteops.model import NewEvent

LISTENING = 200
FEW_EVENTS = 20
SAVES = 100
"""The number of changes of a flow among the events of a store."""

ASKED = ("flow-1", "flow-early")
"""A flow that skips all events, and one that was deleted after the first of them."""


async def measure_record(events: int, counts: tuple[int, ...]) -> list[Figures]:
    """Measure the bytes on the disk for an event to which that many flows listen; one runs."""
    rows: list[Figures] = []
    for count in counts:
        with scratch() as folder:
            async with a_service(folder) as service:
                await fill_flows(service, some_flows(count, all_listen=True))
            with a_server(folder) as server:
                await cycles(server, 8, 0.2)
                before = _size(folder)
                await _send(await connect(server.port), events)
                rows.append(
                    {"listening": count, "bytes_per_event": (_size(folder) - before) / events}
                )
    return rows


def _size(folder: str) -> int:
    """Return the bytes of the database without its log, once that is written back."""
    connection = sqlite3.connect(f"{folder}/flyte.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return Path(folder, "flyte.db").stat().st_size


async def _send(connection: Connection, events: int) -> None:
    body = msgspec.json.encode(EVENT)
    for _ in range(events):
        await connection.request("POST", "/v1/packs/Source/events", body)
    connection.close()


async def measure_why(rounds: int, events: int) -> list[Figures]:
    """Measure the latest decisions about a flow, in a store with many events and one with few."""
    with ExitStack() as stack:
        servers = {}
        for count in (FEW_EVENTS, events):
            folder = stack.enter_context(scratch())
            await _fill_events(folder, count)
            servers[count] = stack.enter_context(a_server(folder))
            await _ask(await connect(servers[count].port), "flow-0")  # it may still be starting
        times: dict[tuple[str, int], list[float]] = {
            (name, count): [] for name in ASKED for count in servers
        }
        for _ in range(max(rounds, 5) + 1):
            for (name, count), found in times.items():
                found.append(await _ask(await connect(servers[count].port), name))
        return [
            {
                "flow": name,
                "events": count,
                "why_ms": median(found[1:]) * 1000,
                "first_ms": found[0] * 1000,
            }
            for (name, count), found in times.items()
        ]


async def _ask(connection: Connection, name: str) -> float:
    began = time.perf_counter()
    path = f"/v1/audit/events?flowName={name}&limit=20"
    status, answer = await connection.request("GET", path)
    took = time.perf_counter() - began
    connection.close()
    found = len(msgspec.json.decode(answer)["events"])
    if (status, found) != (200, 20):
        raise RuntimeError(f"{path} answered {status} with {found} events")
    return took


async def _fill_events(folder: str, count: int) -> None:
    """Store events that all flows skip, with changes of one flow among them."""
    said = NewEvent("Said0", msgspec.json.encode(SKIPPED))
    part = max(count // SAVES, FEW_EVENTS)
    async with a_service(folder) as service:
        early = {**a_flow(0, "Said0", "false"), "name": "flow-early"}
        await fill_flows(service, [early, *some_flows(LISTENING, all_listen=True)])
        for begun in range(0, count, part):
            end = min(begun + part, count)
            for batch in range(begun, end, 500):
                coming = range(batch, min(batch + 500, end))
                await asyncio.gather(*(service.accept_event("Source", said) for _ in coming))
            if begun == 0:
                await service.flows.delete("flow-early")
            await fill_flows(service, [a_flow(0, "Said0", f"{{{{ Event.Name == '{begun}' }}}}")])
