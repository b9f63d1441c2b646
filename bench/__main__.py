"""Measure a server process over HTTP, and print tables.

``--quick`` is for a first impression, without it the figures can be quoted.
"""

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop

from bench.client import CLIENTS, connect
from bench.goal import Figures, Found, compared, goal_table, table
from bench.listeners import measure_listeners, measure_worst
from bench.load import (
    EVENT,
    a_service,
    cycles,
    events_nobody_waits_for,
    expect,
    fill_backlog,
    fill_flows,
    fill_history,
    prepare,
    some_flows,
)
from bench.record import measure_record, measure_why
from bench.server import Server, a_server, scratch

RESULTS = Path(__file__).parent / "results"

Measurement = Callable[[], Coroutine[Any, Any, Found]]


async def measure_cycles(seconds: float, rounds: int) -> list[Figures]:
    """Measure cycles of old clients, and with the fewest flows those of our SDK, in turns."""
    rows: list[Figures] = []
    for flows, all_listen in ((10, False), (200, False), (200, True)):
        with a_server() as server:
            await prepare(setup := await connect(server.port), flows, all_listen=all_listen)
            await cycles(server, 8, seconds / 4)
            clients = list(CLIENTS) if flows == 10 else ["legacy"]
            runs: dict[tuple[str, int], list[dict[str, float]]] = {
                (name, count): [] for count in (1, 32, 128) for name in clients
            }
            for _ in range(rounds):
                for (client, connections), found in runs.items():
                    found.append(await cycles(server, connections, seconds, client=client))
            for (client, connections), found in runs.items():
                medians = {
                    name: median(run[name] for run in found)
                    for name in found[0]
                    if name != "cycles"
                }
                listening = flows if all_listen else 1
                rows.append(
                    {
                        "client": client,
                        "flows": flows,
                        "listening": listening,
                        "connections": connections,
                        **medians,
                    }
                )
            for row in rows[-len(runs) :]:
                legacy = next(
                    each for each in rows[-len(runs) :] if each["connections"] == row["connections"]
                )
                row["cpu_ratio"] = (
                    row["server_cpu_us_per_cycle"] / legacy["server_cpu_us_per_cycle"]
                )
            rows[-1]["memory_mb"] = server.memory()
            setup.close()
    return rows


async def measure_backlog(seconds: float, rounds: int, actions: int) -> Figures:
    with a_server() as empty, a_server() as full:
        for server in (empty, full):
            await prepare(await connect(server.port), 10)
        await fill_backlog(await connect(full.port), actions)
        runs: dict[str, list[Figures]] = {"empty": [], "full": []}
        for _ in range(max(rounds, 3)):
            for name, server in (("empty", empty), ("full", full)):
                runs[name].append(await cycles(server, 32, seconds))
        return {
            "waiting_for_others": actions,
            "take_p50_ms_empty": median(run["take_p50_ms"] for run in runs["empty"]),
            "take_p50_ms_full": median(run["take_p50_ms"] for run in runs["full"]),
            "ratio": median(
                full["take_p50_ms"] / empty["take_p50_ms"]
                for empty, full in zip(runs["empty"], runs["full"], strict=True)
            ),
        }


async def measure_accepting(seconds: float) -> Figures:
    with a_server() as server:
        await prepare(await connect(server.port), 10)
        return {"events_per_s": await events_nobody_waits_for(server, 32, seconds)}


async def measure_history(seconds: float, rounds: int, sizes: tuple[int, ...]) -> list[Figures]:
    """Measure cycles in stores with that many finished executions; the servers take turns."""
    with ExitStack() as stack:
        folders = {size: stack.enter_context(scratch()) for size in sizes}
        for size, folder in folders.items():
            with a_server(folder) as server:
                await prepare(await connect(server.port), 10)
            await fill_history(folder, size)
        return await side_by_side("finished", stack, folders, seconds, rounds)


async def measure_flows(seconds: float, rounds: int, counts: tuple[int, ...]) -> list[Figures]:
    """Measure cycles with that many flows, of which one listens; the servers take turns."""
    with ExitStack() as stack:
        folders = {count: stack.enter_context(scratch()) for count in counts}
        for count, folder in folders.items():
            async with a_service(folder) as service:
                await fill_flows(service, some_flows(count))
        return await side_by_side("flows", stack, folders, seconds, rounds)


async def side_by_side(
    what: str, stack: ExitStack, folders: dict[int, str], seconds: float, rounds: int
) -> list[Figures]:
    """Measure cycles on each database, in turns.

    `ratio` compares the cost of an event and all that follows with the first database.
    """
    servers = {size: stack.enter_context(a_server(folder)) for size, folder in folders.items()}
    runs: dict[int, list[Figures]] = {size: [] for size in servers}
    for server in servers.values():
        await cycles(server, 32, seconds / 4)
    for _ in range(rounds):
        for size, server in servers.items():
            runs[size].append(await cycles(server, 32, seconds))
    first = next(iter(runs.values()))
    names = ("cycles_per_s", "server_cpu_us_per_cycle", "event_p50_ms", "take_p50_ms")
    return [
        {
            what: size,
            **{name: median(run[name] for run in found) for name in names},
            "ratio": median(
                run[names[1]] / least[names[1]] for run, least in zip(found, first, strict=True)
            ),
            "memory_mb": servers[size].memory(),
        }
        for size, found in runs.items()
    ]


async def measure_waiting(seconds: float, packs: int) -> Figures:
    """Measure the time until a waiting pack gets an event's action.

    Also the cost of packs that wait in vain.
    """
    with a_server() as server:
        await prepare(setup := await connect(server.port), 10)
        worker = await connect(server.port)
        delays = []
        body = msgspec.json.encode(EVENT)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            taking = asyncio.ensure_future(
                worker.request("POST", "/v1/packs/Worker/actions/take?wait=30")
            )
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            sending = asyncio.ensure_future(setup.request("POST", "/v1/packs/Source/events", body))
            status, answer = await taking
            delays.append(time.perf_counter() - began)
            assert status == 200
            await sending
            href: str = msgspec.json.decode(answer)["links"][0]["href"]
            await worker.request("POST", href[href.index("/v1/") :], b'{"event":"Done"}')
        memory = server.memory()
        idle = []
        for number in range(packs):
            await expect(setup, "/v1/packs", {"name": f"Idle{number}"}, 201)
            idle.append(await connect(server.port))
        waits = [
            asyncio.ensure_future(
                connection.request("POST", f"/v1/packs/Idle{number}/actions/take?wait=60")
            )
            for number, connection in enumerate(idle)
        ]
        await asyncio.sleep(1)
        cpu, began = server.cpu(), time.perf_counter()
        await asyncio.sleep(seconds * 2)
        load = (server.cpu() - cpu) / (time.perf_counter() - began)
        assert not any(wait.done() for wait in waits)
        delays.sort()
        figures = {
            "event_to_pack_p50_ms": median(delays) * 1000,
            "event_to_pack_p99_ms": delays[int(len(delays) * 0.99)] * 1000,
            "waiting_packs": packs,
            "their_cpu_percent": load * 100,
            "memory_mb": server.memory(),
            "memory_before_mb": memory,
        }
        for wait, connection in zip(waits, idle, strict=True):
            wait.cancel()
            connection.close()
        return figures


def measure_start(rounds: int) -> Figures:
    with scratch() as folder:
        times, memory = [], 0.0
        for _ in range(rounds):
            server = Server(folder)
            times.append(server.start())
            memory = server.memory()
            server.stop()
    return {"start_s": median(times), "idle_memory_mb": memory}


def show(name: str, found: Found) -> None:
    print(f"{name}\n{table(found if isinstance(found, list) else [found])}\n", flush=True)


def measurements(*, is_quick: bool, is_long: bool) -> dict[str, Measurement]:
    """Return all measurements by name, in their order."""
    seconds, rounds, backlog, packs = (0.4, 1, 2_000, 50) if is_quick else (5.0, 3, 100_000, 1_000)
    flows = (10, 100) if is_quick else (10, 1_000, 10_000)
    history = (100, 1_000) if is_quick else (10_000, 100_000, *([1_000_000] if is_long else []))
    listening = (200,) if is_quick else (200, 2_000, 10_000)
    events = 1_000_000 if is_long else 2_000 if is_quick else 20_000
    return {
        "cycles": lambda: measure_cycles(seconds, rounds),
        "accepting": lambda: measure_accepting(seconds),
        "backlog": lambda: measure_backlog(seconds, rounds, backlog),
        "waiting": lambda: measure_waiting(seconds, packs),
        "flows": lambda: measure_flows(seconds, rounds, flows),
        "history": lambda: measure_history(seconds, rounds, history),
        "listeners": lambda: measure_listeners(seconds, rounds, listening),
        "worst cases": lambda: measure_worst(seconds / 2, rounds, 200),
        "record": lambda: measure_record(500 if is_quick else 5_000, (1, 200)),
        "why": lambda: measure_why(rounds, events),
    }


def measure(options: argparse.Namespace) -> dict[str, Found]:
    """Run the measurements, and print the figures of each."""
    wanted = None if options.only is None else options.only.split(",")
    found: dict[str, Found] = {}
    if wanted is None:
        found["start"] = measure_start(3 if options.quick else 5)
        show("start", found["start"])
    for name, run in measurements(is_quick=options.quick, is_long=options.long).items():
        if wanted is None or name in wanted:
            found[name] = uvloop.run(run())
            show(name, found[name])
    return found


def write(found: dict[str, Found], goals: Found, *, is_quick: bool) -> None:
    """Write the figures with a description of the machine to a file."""
    about = {
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": is_quick,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps({**about, **found, "goals": goals}, indent=2) + "\n")
    print(
        f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"
    )


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="short runs, small numbers: shows that it works, proves nothing",
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help="also with 1,000,000 finished executions and events: which takes long, and 1 GB",
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="some of the measurements, such as listeners,why",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        action="append",
        help=(
            "compare a PostgreSQL or MongoDB with SQLite instead; as a role that may make schemas"
            " or databases; may be repeated"
        ),
    )
    parser.add_argument(
        "--servers",
        metavar="NUMBERS",
        default="1,2",
        help="how many servers on that store; default: 1,2",
    )
    options = parser.parse_args()
    if options.store is not None:
        # Its driver need not be there for the rest.
        from bench.backend import measure_stores  # noqa: PLC0415

        counts = [int(number) for number in options.servers.split(",")]
        uvloop.run(measure_stores(options.store, counts, is_quick=options.quick))
        return
    found = measure(options)
    goals = compared(found)
    if goals:
        print(f"goals\n{goal_table(goals)}")
    write(found, goals, is_quick=options.quick)


if __name__ == "__main__":
    main()
