"""Measure servers on a store that they share, side by side with one on SQLite.

The command is ``python -m bench --store URL --servers 1,2``; with several ``--store``, all of them
take turns.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import msgspec
from pymongo import AsyncMongoClient

from bench.client import LegacyWorker, Timings, connect
from bench.fill import fill, plan_of_take
from bench.load import EVENT, prepare
from bench.server import Server, scratch

Row = dict[str, Any]

SETTLING = 3.0
"""Seconds after which all servers know the flows, and each other."""


def is_mongodb(url: str) -> bool:
    return url.startswith("mongodb")


@asynccontextmanager
async def place(url: str) -> AsyncIterator[tuple[str, Any]]:
    """Make an empty schema, and yield its URL and a connection; drop it afterwards.

    On MongoDB it is a database, and there is no connection.
    """
    name = f"bench_{secrets.token_hex(4)}"
    if is_mongodb(url):
        client: Any = AsyncMongoClient(url)
        try:
            yield f"{url.rstrip('/')}/{name}", None
        finally:
            await client.drop_database(name)
            await client.close()
        return
    connection = await asyncpg.connect(url, server_settings={"search_path": name})
    await connection.execute(f"CREATE SCHEMA {name}")
    try:
        yield f"{url}{'&' if '?' in url else '?'}search_path={name}", connection
    finally:
        await connection.execute(f"DROP SCHEMA {name} CASCADE")
        await connection.close()


async def database_cpu(connection: Any) -> float:
    """Return the CPU seconds of all processes of the database.

    It is 0 if they are unknown or on another machine.
    """
    if connection is None:
        return 0.0
    rows = await connection.fetch("SELECT pid FROM pg_stat_activity")
    return sum(cpu_of(pid) for (pid,) in rows)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process so far, 0 if it does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(store: str | None, count: int) -> Iterator[list[Server]]:
    """Run so many servers on a store, or one on a file."""
    with scratch() as folder:
        servers = [Server(folder, store) for _ in range(count)]
        try:
            for server in servers:
                server.start()
            yield servers
        finally:
            for server in servers:
                server.stop()


async def cycles(
    servers: Sequence[Server], connections: int, seconds: float
) -> tuple[float, float, Timings]:
    """Run full cycles over all servers.

    Return the rate, the servers' CPU in microseconds a cycle, and the durations of calls.
    """
    timings, event = Timings(), msgspec.json.encode(EVENT)
    ports = [servers[number % len(servers)].port for number in range(connections)]
    workers = [LegacyWorker(await connect(port), timings, event, repeat(0)) for port in ports]
    cpu, began = sum(server.cpu() for server in servers), time.perf_counter()
    await asyncio.gather(*(worker.run(began + seconds) for worker in workers))
    took, done = time.perf_counter() - began, sum(worker.cycles for worker in workers)
    used = sum(server.cpu() for server in servers) - cpu
    for worker in workers:
        worker.connection.close()
    return done / took, used / done * 1e6, timings


async def measure_rates(
    urls: Sequence[str], counts: Sequence[int], seconds: float, rounds: int
) -> list[Row]:
    """Measure cycles with so many servers on each store and one on SQLite, which take turns.

    `share` and `cpu_ratio` compare a store with SQLite in the same round.
    """
    rows: list[Row] = []
    stores: dict[str, tuple[str | None, int]] = {"sqlite 1": (None, 1)}
    stores |= {f"{url.partition(':')[0]} {count}": (url, count) for url in urls for count in counts}
    for connections in (1, 32, 128):
        found: dict[str, list[Row]] = {name: [] for name in stores}
        for _ in range(rounds):
            for name, (url, count) in stores.items():
                found[name].append(await _rate(url, count, connections, seconds))
        base = found["sqlite 1"]
        for name, measured in found.items():
            medians = {key: median(row[key] for row in measured) for key in measured[0]}
            rows.append(
                {
                    "store": name,
                    "connections": connections,
                    **medians,
                    "share": _ratio(measured, base, "cycles_per_s"),
                    "cpu_ratio": _ratio(measured, base, "servers_cpu_us"),
                }
            )
    return rows


def _ratio(measured: Sequence[Row], base: Sequence[Row], figure: str) -> float:
    """Return the median of the ratios of the rounds."""
    return median(row[figure] / other[figure] for row, other in zip(measured, base, strict=True))


async def _rate(store: str | None, count: int, connections: int, seconds: float) -> Row:
    if store is None:
        with running(None, 1) as servers:
            await prepare(await connect(servers[0].port), 10)
            await cycles(servers, connections, seconds / 4)
            rate, cpu, timings = await cycles(servers, connections, seconds)
            return _row(rate, cpu, 0.0, timings)
    async with place(store) as (url, connection):
        with running(url, count) as servers:
            await prepare(await connect(servers[0].port), 10)
            await asyncio.sleep(SETTLING)
            await cycles(servers, connections, seconds / 4)
            before = await database_cpu(connection)
            rate, cpu, timings = await cycles(servers, connections, seconds)
            used = await database_cpu(connection) - before
            return _row(rate, cpu, used / (rate * seconds) * 1e6, timings)


def _row(rate: float, cpu: float, database: float, timings: Timings) -> Row:
    row = {"cycles_per_s": rate, "servers_cpu_us": cpu, "database_cpu_us": database}
    return row | {
        f"{call}_p50_ms": timings.percentile(call, 0.5) for call in ("event", "take", "result")
    }


async def measure_take(url: str, seconds: float, rounds: int, actions: int) -> Row:
    """Measure take with so many actions that wait for others, and without them.

    Print the query plan.
    """
    async with place(url) as (empty_url, _), place(url) as (full_url, connection):
        with running(empty_url, 1) as empty, running(full_url, 1) as full:
            for servers in (empty, full):
                await prepare(await connect(servers[0].port), 10)
            await fill(connection, actions, "NEW")
            print(await plan_of_take(connection), end="\n\n")
            runs: dict[str, list[float]] = {"empty": [], "full": []}
            for _ in range(rounds):
                for name, servers in (("empty", empty), ("full", full)):
                    runs[name].append(
                        (await cycles(servers, 32, seconds))[2].percentile("take", 0.5)
                    )
    return {
        "waiting_for_others": actions,
        "take_p50_ms_empty": median(runs["empty"]),
        "take_p50_ms_full": median(runs["full"]),
    }


async def measure_start(url: str, rounds: int, actions: int) -> Row:
    """Measure the time until a server responds.

    On an empty database, and on one with so many finished actions.
    """
    times: dict[str, list[float]] = {"empty": [], "full": []}
    async with place(url) as (empty_url, _), place(url) as (full_url, connection):
        for store in (empty_url, full_url):
            await _start(store)
        await fill(connection, actions, "SUCCESS")
        for _ in range(rounds):
            for name, store in (("empty", empty_url), ("full", full_url)):
                times[name].append(await _start(store))
    return {
        "actions": actions,
        "start_s_empty": median(times["empty"]),
        "start_s_full": median(times["full"]),
    }


async def _start(store: str) -> float:
    """Return the seconds until a server is ready."""
    server, began = Server("", store), time.perf_counter()
    try:
        server.start()
        connection = await connect(server.port)
        # There is no response until the store is open.
        status, _ = await connection.request("GET", "/health/ready")
        assert status == 200
        connection.close()
        return time.perf_counter() - began
    finally:
        server.stop()


async def measure_stores(urls: Sequence[str], counts: Sequence[int], *, is_quick: bool) -> None:
    """Run all measurements of stores that servers share, and print the results."""
    seconds, rounds, waiting, history = (
        (1.0, 1, 2_000, 20_000) if is_quick else (5.0, 3, 100_000, 1_000_000)
    )
    show(await measure_rates(urls, counts, seconds, rounds))
    for url in urls:
        if is_mongodb(url):
            continue  # the next ones fill the tables of PostgreSQL
        show([await measure_take(url, seconds, rounds, waiting)])
        show([await measure_start(url, rounds, history)])


def show(rows: Sequence[Row]) -> None:
    """Print rows of figures."""
    names = list(rows[0])
    lines = [names] + [
        [f"{row[name]:.2f}" if isinstance(row[name], float) else str(row[name]) for name in names]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(flush=True)
