"""Many flows that listen to the same event: cycles, memory, saving a flow, and the worst cases."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from statistics import median
from typing import TypeVar

import msgspec

from bench.client import Connection, connect
from bench.goal import Figures
from bench.load import (
    EVENT,
    SKIPPED,
    a_flow,
    a_service,
    cycles,
    events,
    expect,
    fill_flows,
    some_flows,
)
from bench.server import Server, a_server, scratch

NOT_ANALYSED = "{{ Event.Payload.message|lower|match:'^deploy app-{number}$' }}"
"""Criteria without a condition that can be looked up, so that every step is tried."""

LARGE = r"{{ Event.Payload.message|match:'^\\pL+ app-{number}$' }}"
"""Criteria with regular expressions of more than a thousand instructions."""

ALL_MATCH = "{{ Event.Payload.message|match:'^deploy app-' }}"

Key = TypeVar("Key", int, str)

CLIENTS = 8
"""The number of clients that send events while a flow is saved."""

SAVES = 5
"""The least number of flows that are saved for a median."""


async def measure_listeners(seconds: float, rounds: int, counts: tuple[int, ...]) -> list[Figures]:
    """Compare flows that all listen to one event with ten of which one does, in turns."""
    with ExitStack() as stack:
        flows = {count: some_flows(count, all_listen=True) for count in counts}
        servers = await _filled(stack, {1: some_flows(10), **flows})
        for server in servers.values():
            await cycles(server, 32, seconds / 4)
        runs: dict[int, list[Figures]] = {count: [] for count in servers}
        for _ in range(rounds):
            for count, server in servers.items():
                runs[count].append(await cycles(server, 32, seconds))
        return [
            {
                "listening": count,
                "flows": max(count, 10),
                **_beside(runs[count], runs[1], "cycles_per_s", "server_cpu_us_per_cycle"),
                "memory_mb": server.memory(),
                **await _saving(server, max(rounds, SAVES)),
            }
            for count, server in servers.items()
        ]


async def measure_worst(seconds: float, rounds: int, count: int) -> list[Figures]:
    """Measure events to which many flows listen in ways that the index cannot help with."""
    with ExitStack() as stack:
        servers = await _filled(
            stack,
            {
                "ten flows, one listens": some_flows(10),
                "one runs": some_flows(count, all_listen=True),
                "none can be analysed": some_flows(count, all_listen=True, criteria=NOT_ANALYSED),
                "large patterns": some_flows(count, all_listen=True, criteria=LARGE),
                "all run": some_flows(count, all_listen=True, criteria=ALL_MATCH),
            },
        )
        runs: dict[str, list[Figures]] = {case: [] for case in servers}
        for server in servers.values():
            await events(server, 1, seconds / 4, EVENT)
        for _ in range(rounds):
            for case, server in servers.items():
                cpu, began = server.cpu(), time.perf_counter()
                rate = await events(server, 8, seconds, EVENT)
                used = (server.cpu() - cpu) / (rate * (time.perf_counter() - began)) * 1e6
                runs[case].append({"events_per_s": rate, "server_cpu_us_per_event": used})
        least = next(iter(runs.values()))
        return [
            {
                "listening": 1 if found is least else count,
                "case": case,
                **_beside(found, least, "events_per_s", "server_cpu_us_per_event"),
            }
            for case, found in runs.items()
        ]


async def _filled(
    stack: ExitStack, flows: Mapping[Key, Iterable[dict[str, object]]]
) -> dict[Key, Server]:
    """Start a server for each group of flows."""
    servers = {}
    for key, group in flows.items():
        folder = stack.enter_context(scratch())
        async with a_service(folder) as service:
            await fill_flows(service, group)
        servers[key] = stack.enter_context(a_server(folder))
    return servers


def _beside(found: list[Figures], least: list[Figures], rate: str, cpu: str) -> Figures:
    """Return medians, and medians of the ratios to the first server's in the same round."""
    pairs = list(zip(found, least, strict=True))
    return {
        rate: median(run[rate] for run in found),
        "ratio": median(run[rate] / other[rate] for run, other in pairs),
        cpu: median(run[cpu] for run in found),
        "cpu_ratio": median(run[cpu] / other[cpu] for run, other in pairs),
    }


async def _saving(server: Server, times: int) -> Figures:
    """Measure saving a flow, and the longest time of an event of other clients meanwhile."""
    saving, waits = [], []
    connection = await connect(server.port)
    others = [await connect(server.port) for _ in range(CLIENTS)]
    for number in range(times):
        criteria = f"{{{{ Event.Payload.message|match:'^saved {number}$' }}}}"
        until = time.perf_counter() + 0.3
        events_meanwhile = [asyncio.create_task(_longest_event(each, until)) for each in others]
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await expect(connection, "/v1/flows", a_flow(0, "Said0", criteria), 201)
        saving.append(time.perf_counter() - began)
        waits.append(max(await asyncio.gather(*events_meanwhile)))
    for each in (connection, *others):
        each.close()
    return {"save_ms": median(saving) * 1000, "event_meanwhile_ms": median(waits) * 1000}


async def _longest_event(connection: Connection, until: float) -> float:
    body = msgspec.json.encode({**EVENT, "payload": SKIPPED})
    longest = 0.0
    while (began := time.perf_counter()) < until:
        await connection.request("POST", "/v1/packs/Source/events", body)
        longest = max(longest, time.perf_counter() - began)
    return longest
