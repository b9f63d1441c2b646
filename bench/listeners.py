"""Many flows that listen to the same event: cycles, disk, `why`, memory, and saving a flow."""

import asyncio
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from bench.client import Connection, connect
from bench.goal import Figures
from bench.load import EVENT, a_flow, cycles, expect, prepare
from bench.server import Server, a_server, scratch

UNANALYZED = "{{{{ Event.Payload.message|lower|match:'^deploy app-{number}$' }}}}"
"""Criteria for which there are no conditions to look up, so that every step is tried."""


async def measure_listeners(seconds: float, rounds: int, counts: tuple[int, ...]) -> list[Figures]:
    """Compare flows that all listen to one event with ten of which one does, in turns."""
    with ExitStack() as stack:
        servers = {0: stack.enter_context(a_server())}
        await prepare(await connect(servers[0].port), 10)
        for count in counts:
            servers[count] = stack.enter_context(a_server())
            await prepare(await connect(servers[count].port), count, all_listen=True)
        for server in servers.values():
            await cycles(server, 32, seconds / 4)
        runs: dict[int, list[Figures]] = {count: [] for count in servers}
        for _ in range(rounds):
            for count, server in servers.items():
                runs[count].append(await cycles(server, 32, seconds))
        return [
            {
                "listening": count or 1,
                "flows": count or 10,
                "cycles_per_s": median(run["cycles_per_s"] for run in found),
                "server_cpu_us_per_cycle": median(run["server_cpu_us_per_cycle"] for run in found),
                "ratio": median(
                    run["cycles_per_s"] / least["cycles_per_s"]
                    for run, least in zip(found, runs[0], strict=True)
                ),
                "memory_mb": servers[count].memory(),
                **await _saving(servers[count], rounds),
            }
            for count, found in runs.items()
        ]


async def _saving(server: Server, rounds: int) -> Figures:
    """Measure saving a flow, and the longest time of an event meanwhile."""
    saving, waits = [], []
    connection, other = await connect(server.port), await connect(server.port)
    for number in range(max(rounds, 5)):
        criteria = f"{{{{ Event.Payload.message|match:'^saved {number}$' }}}}"
        task = asyncio.create_task(_longest_event(other))
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await expect(connection, "/v1/flows", a_flow(0, "Said0", criteria), 201)
        saving.append(time.perf_counter() - began)
        waits.append(await task)
    connection.close()
    other.close()
    return {"save_ms": median(saving) * 1000, "event_meanwhile_ms": median(waits) * 1000}


async def _longest_event(connection: Connection, seconds: float = 0.5) -> float:
    body = msgspec.json.encode({**EVENT, "payload": {"message": "nobody listens"}})
    longest, until = 0.0, time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await connection.request("POST", "/v1/packs/Source/events", body)
        longest = max(longest, time.perf_counter() - began)
    return longest


async def measure_record(events: int, counts: tuple[int, ...]) -> list[Figures]:
    """Measure the bytes on the disk for an event to which that many flows listen."""
    rows: list[Figures] = []
    for count in counts:
        with scratch() as folder, a_server(folder) as server:
            await prepare(setup := await connect(server.port), count, all_listen=count > 1)
            await cycles(server, 8, 0.2)
            before = _size(folder)
            await _send(setup, events)
            rows.append({"listening": count, "bytes_per_event": (_size(folder) - before) / events})
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
