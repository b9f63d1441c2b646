"""The load on a server: full cycles, events alone, many flows, a backlog, a long history."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import repeat
from math import inf

import msgspec

from bench.client import CLIENTS, Connection, Timings, connect
from bench.server import Server
from flyteops.flow.file import parse, read_flow
from flyteops.model import NewEvent, PackDeclaration
from flyteops.service import Service
from flyteops.storage.sqlite import SqliteStore

PAYLOAD = {
    "message": "deploy app-1",
    "user": {"id": "U1", "name": "ann"},
    "channelId": "C1",
    "threadTimestamp": "1",
}

EVENT = {"event": "Said0", "payload": PAYLOAD}

SKIPPED = {**PAYLOAD, "message": "nobody acts on this"}
"""A payload for which all criteria are false."""

PACKS = ("Source", "Worker")

MATCH = "{{ Event.Payload.message|match:'^deploy app-{number}$' }}"


def a_flow(number: int, event: str, criteria: str) -> dict[str, object]:
    first = {
        "id": "first",
        "event": {"packName": "Source", "name": event},
        "criteria": criteria,
        "context": {"channel": "{{ Event.Payload.channelId }}"},
        "command": {
            "packName": "Worker",
            "name": "Work",
            "input": {"text": "{{ Event.Payload.message }}", "to": "{{ Context.channel }}"},
        },
    }
    return {"name": f"flow-{number}", "steps": [first]}


def some_flows(
    count: int, *, all_listen: bool = False, criteria: str = MATCH
) -> Iterable[dict[str, object]]:
    """Yield flows of which one acts on the benchmark's event; all or that one listen to it.

    `criteria` has the place `{number}`.
    """
    for number in range(count):
        event = "Said0" if all_listen else f"Said{number}"
        yield a_flow(number, event, criteria.replace("{number}", str(number + 1)))


async def prepare(connection: Connection, flows: int, *, all_listen: bool = False) -> None:
    """Register the packs and post the flows, of which one acts on the benchmark's event."""
    for name in PACKS:
        await expect(connection, "/v1/packs", {"name": name}, 201)
    for flow in some_flows(flows, all_listen=all_listen):
        await expect(connection, "/v1/flows", flow, 201)


@asynccontextmanager
async def a_service(folder: str) -> AsyncIterator[Service]:
    """Run the service on the database of a stopped server, without HTTP, to fill it faster."""
    async with SqliteStore(f"{folder}/flyte.db") as store:
        service = Service(store)
        await service.start()
        yield service


async def fill_flows(service: Service, flows: Iterable[dict[str, object]]) -> None:
    """Register the packs and save flows."""
    for name in PACKS:
        await service.packs.register(PackDeclaration(name, {}))
    for flow in flows:
        document = parse(msgspec.json.encode(flow), is_yaml=False)
        await service.flows.save(read_flow(document))


async def expect(connection: Connection, path: str, body: object, status: int) -> None:
    answer = await connection.request("POST", path, msgspec.json.encode(body))
    if answer[0] != status:
        raise RuntimeError(f"{path} answered {answer}")


async def cycles(
    server: Server, connections: int, seconds: float, at_most: float = inf, client: str = "legacy"
) -> dict[str, float]:
    """Run full cycles of a kind of client; return the rate and the latencies in milliseconds."""
    timings = Timings()
    tickets = repeat(0) if at_most == inf else iter(range(int(at_most)))
    event, kind = msgspec.json.encode(EVENT), CLIENTS[client]
    workers = [
        kind(await connect(server.port), timings, event, tickets) for _ in range(connections)
    ]
    cpu, began = server.cpu(), time.perf_counter()
    await asyncio.gather(*(worker.run(began + seconds) for worker in workers))
    took = time.perf_counter() - began
    done = sum(worker.cycles for worker in workers)
    figures = {
        "cycles": done,
        "cycles_per_s": done / took,
        "server_cpu_us_per_cycle": (server.cpu() - cpu) / done * 1e6,
    }
    for call in ("event", "take", "result"):
        figures |= {
            f"{call}_p50_ms": timings.percentile(call, 0.5),
            f"{call}_p99_ms": timings.percentile(call, 0.99),
        }
    for worker in workers:
        worker.connection.close()
    return figures


async def events_nobody_waits_for(server: Server, connections: int, seconds: float) -> float:
    """Return the number of events accepted per second when no flow listens."""
    return await events(server, connections, seconds, {**EVENT, "event": "Nothing"})


async def events(
    server: Server, connections: int, seconds: float, event: Mapping[str, object]
) -> float:
    """Return the number of such events accepted per second."""
    body = msgspec.json.encode(event)

    async def send(connection: Connection, until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            status, answer = await connection.request("POST", "/v1/packs/Source/events", body)
            if status != 202:
                raise RuntimeError(f"an event was answered with {status}: {answer[:200]!r}")
            count += 1
        connection.close()
        return count

    opened = [await connect(server.port) for _ in range(connections)]
    began = time.perf_counter()
    counts = await asyncio.gather(*(send(connection, began + seconds) for connection in opened))
    return sum(counts) / (time.perf_counter() - began)


async def fill_backlog(connection: Connection, actions: int) -> None:
    """Leave that many actions waiting for a pack that never comes."""
    step = {
        "event": {"packName": "Source", "name": "Fill"},
        "command": {"packName": "Worker", "name": "Work", "packLabels": {"env": "else"}},
    }
    await expect(
        connection,
        "/v1/flows",
        {"name": "fill", "steps": [{**step, "id": str(number)} for number in range(100)]},
        201,
    )
    for _ in range(actions // 100):
        await expect(connection, "/v1/packs/Source/events", {"event": "Fill"}, 202)


async def fill_history(folder: str, executions: int) -> None:
    """Make finished executions in the database of a stopped server.

    It uses the service, without HTTP.
    """
    said, done = (
        NewEvent("Said0", msgspec.json.encode(PAYLOAD)),
        NewEvent("Done", b'{"exit_code":0}'),
    )
    async with a_service(folder) as service:

        async def cycle() -> None:
            await service.accept_event("Source", said)
            for action in await service.take("Worker"):
                await service.complete("Worker", action.action_id, done)

        for begun in range(0, executions, 500):
            await asyncio.gather(*(cycle() for _ in range(min(500, executions - begun))))
