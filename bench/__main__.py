"""Measure a server process over HTTP, and print a table; ``--quick`` for a look, without it for figures to quote."""

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import repeat
from math import inf
from pathlib import Path
from statistics import median

import msgspec
import uvloop

from bench.client import Connection, Timings, Worker, connect

RESULTS = Path(__file__).parent / "results"
EVENT = {
    "event": "Said0",
    "payload": {"message": "deploy app-1", "user": {"id": "U1", "name": "ann"}, "channelId": "C1", "threadTimestamp": "1"},
}


class Server:
    """A server process on a scratch database."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start and return the seconds until it answers."""
        environment = {
            **os.environ,
            "FLYTE_PORT": str(self.port),
            "FLYTE_STORE": f"sqlite:///{self._folder}/flyte.db",
            "LOGLEVEL": "error",
        }
        began = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", "flyteops", "serve"], env=environment)
        while True:
            if self.process.poll() is not None:
                raise RuntimeError("the server did not start")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.002)
            else:
                return time.perf_counter() - began

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def memory(self) -> float:
        """Return the resident memory in MB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def a_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="flyte-bench-") as folder:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


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


async def prepare(connection: Connection, flows: int, *, all_listen: bool = False) -> None:
    """Register the packs and post the flows; of those one acts on the benchmark's event."""
    for name in ("Source", "Worker"):
        await expect(connection, "/v1/packs", {"name": name}, 201)
    for number in range(flows):
        event = "Said0" if all_listen else f"Said{number}"
        app = f"{{{{ Event.Payload.message|match:'^deploy app-{number + 1}$' }}}}"
        await expect(connection, "/v1/flows", a_flow(number, event, app), 201)


async def expect(connection: Connection, path: str, body: object, status: int) -> None:
    answer = await connection.request("POST", path, msgspec.json.encode(body))
    if answer[0] != status:
        raise RuntimeError(f"{path} answered {answer}")


async def cycles(server: Server, connections: int, seconds: float, at_most: float = inf) -> dict[str, float]:
    """Run full cycles and return the rate and the latencies in milliseconds."""
    timings = Timings()
    tickets = repeat(0) if at_most == inf else iter(range(int(at_most)))
    workers = [Worker(await connect(server.port), timings, msgspec.json.encode(EVENT), tickets) for _ in range(connections)]
    cpu, began = server.cpu(), time.perf_counter()
    await asyncio.gather(*(worker.run(began + seconds) for worker in workers))
    took = time.perf_counter() - began
    done = sum(worker.cycles for worker in workers)
    figures = {"cycles": done, "cycles_per_s": done / took, "server_cpu_us_per_cycle": (server.cpu() - cpu) / done * 1e6}
    for call in ("event", "take", "result"):
        figures |= {f"{call}_p50_ms": timings.percentile(call, 0.5), f"{call}_p99_ms": timings.percentile(call, 0.99)}
    for worker in workers:
        worker.connection.close()
    return figures


async def events_nobody_waits_for(server: Server, connections: int, seconds: float) -> float:
    """Return how many events a second are accepted when no flow listens."""
    body = msgspec.json.encode({**EVENT, "event": "Nothing"})

    async def send(connection: Connection, until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            await connection.request("POST", "/v1/packs/Source/events", body)
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
    await expect(connection, "/v1/flows", {"name": "fill", "steps": [{**step, "id": str(number)} for number in range(100)]}, 201)
    for _ in range(actions // 100):
        await expect(connection, "/v1/packs/Source/events", {"event": "Fill"}, 202)


async def measure_cycles(seconds: float, rounds: int) -> list[dict[str, float]]:
    rows = []
    for flows, all_listen in ((10, False), (200, False), (200, True)):
        with a_server() as server:
            await prepare(setup := await connect(server.port), flows, all_listen=all_listen)
            await cycles(server, 8, seconds / 4)
            runs: dict[int, list[dict[str, float]]] = {1: [], 32: [], 128: []}
            for _ in range(rounds):
                for connections, found in runs.items():
                    found.append(await cycles(server, connections, seconds))
            for connections, found in runs.items():
                medians = {name: median(run[name] for run in found) for name in found[0] if name != "cycles"}
                rows.append({"flows": flows, "listening": flows if all_listen else 1, "connections": connections, **medians})
            rows[-1]["memory_mb"] = server.memory()
            setup.close()
    return rows


async def measure_backlog(seconds: float, rounds: int, actions: int) -> dict[str, float]:
    with a_server() as empty, a_server() as full:
        for server in (empty, full):
            await prepare(await connect(server.port), 10)
        await fill_backlog(await connect(full.port), actions)
        runs: dict[str, list[dict[str, float]]] = {"empty": [], "full": []}
        for _ in range(max(rounds, 3)):
            for name, server in (("empty", empty), ("full", full)):
                runs[name].append(await cycles(server, 32, seconds))
        return {
            "waiting_for_others": actions,
            "take_p50_ms_empty": median(run["take_p50_ms"] for run in runs["empty"]),
            "take_p50_ms_full": median(run["take_p50_ms"] for run in runs["full"]),
            "ratio": median(
                full["take_p50_ms"] / empty["take_p50_ms"] for empty, full in zip(runs["empty"], runs["full"], strict=True)
            ),
        }


async def measure_accepting(seconds: float) -> dict[str, float]:
    with a_server() as server:
        await prepare(await connect(server.port), 10)
        return {"events_per_s": await events_nobody_waits_for(server, 32, seconds)}


async def measure_history(seconds: float, rounds: int, sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """Measure cycles in stores with that many finished executions, made by the server itself."""
    rows = []
    with a_server() as server:
        await prepare(await connect(server.port), 10)
        finished = 0.0
        for size in sizes:
            while finished < size:
                finished += (await cycles(server, 128, 5.0, at_most=size - finished))["cycles"]
            runs = [await cycles(server, 32, seconds) for _ in range(rounds)]
            finished += sum(run["cycles"] for run in runs)
            rows.append(
                {
                    "finished": size,
                    **{name: median(run[name] for run in runs) for name in ("cycles_per_s", "event_p50_ms", "take_p50_ms")},
                    "memory_mb": server.memory(),
                }
            )
    return rows


async def measure_flows(seconds: float, rounds: int, counts: tuple[int, ...]) -> list[dict[str, float]]:
    """Measure cycles with that many flows, of which one listens; the servers take turns."""
    with ExitStack() as stack:
        servers = {count: stack.enter_context(a_server()) for count in counts}
        for count, server in servers.items():
            await prepare(await connect(server.port), count)
        runs: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
        for _ in range(rounds):
            for count, server in servers.items():
                runs[count].append(await cycles(server, 32, seconds))
        return [
            {
                "flows": count,
                **{name: median(run[name] for run in found) for name in ("cycles_per_s", "event_p50_ms")},
                "memory_mb": servers[count].memory(),
            }
            for count, found in runs.items()
        ]


async def measure_waiting(seconds: float, packs: int) -> dict[str, float]:
    """Measure how soon a waiting pack gets what an event made, and what packs cost that wait in vain."""
    with a_server() as server:
        await prepare(setup := await connect(server.port), 10)
        worker = await connect(server.port)
        delays = []
        body = msgspec.json.encode(EVENT)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            taking = asyncio.ensure_future(worker.request("POST", "/v1/packs/Worker/actions/take?wait=30"))
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
            asyncio.ensure_future(connection.request("POST", f"/v1/packs/Idle{number}/actions/take?wait=60"))
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


def measure_start(rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="flyte-bench-") as folder:
        times, memory = [], 0.0
        for _ in range(rounds):
            server = Server(folder)
            times.append(server.start())
            memory = server.memory()
            server.stop()
    return {"start_s": median(times), "idle_memory_mb": memory}


def table(rows: list[dict[str, float]]) -> str:
    """Return rows of figures as aligned text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names] + [[f"{row[name]:.2f}".removesuffix(".00") if name in row else "" for name in names] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, a small backlog: shows that it works, proves nothing")
    parser.add_argument(
        "--long", action="store_true", help="also with 1,000,000 finished executions, for which it takes 10 minutes"
    )
    options = parser.parse_args()
    seconds, rounds, backlog, packs = (0.5, 1, 2_000, 50) if options.quick else (5.0, 3, 100_000, 1_000)
    flows = (10, 100) if options.quick else (10, 1_000, 10_000)
    history = (1_000,) if options.quick else (10_000, 100_000, *([1_000_000] if options.long else []))
    found: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
    }
    found["start"] = measure_start(rounds + 2)
    print(table([found["start"]]), end="\n\n", flush=True)  # type: ignore[list-item]
    found["cycles"] = uvloop.run(measure_cycles(seconds, rounds))
    print(table(found["cycles"]), end="\n\n", flush=True)  # type: ignore[arg-type]
    found["accepting"] = uvloop.run(measure_accepting(seconds))
    found["backlog"] = uvloop.run(measure_backlog(seconds, rounds, backlog))
    found["waiting"] = uvloop.run(measure_waiting(seconds, packs))
    for name in ("accepting", "backlog", "waiting"):
        print(table([found[name]]), end="\n\n", flush=True)  # type: ignore[list-item]
    found["flows"] = uvloop.run(measure_flows(seconds, rounds, flows))
    print(table(found["flows"]), end="\n\n", flush=True)  # type: ignore[arg-type]
    found["history"] = uvloop.run(measure_history(seconds, rounds, history))
    print(table(found["history"]), flush=True)  # type: ignore[arg-type]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
