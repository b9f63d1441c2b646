"""Compare Flyte with DBOS and procrastinate on one PostgreSQL, in turns.

Each has a database of its own, a worker or server process, and so many clients. The other engines
are installed with pip, at fixed versions, into an environment in a cache folder; the first run
needs the package registry.
"""

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import asyncpg
import uvloop

from bench.client import connect
from bench.goal import Figures, table
from bench.load import cycles, prepare
from bench.peer.backlog import BACKENDS, cpu_of
from bench.server import Server, scratch

VERSIONS = {"dbos": "3.4.0", "procrastinate": "3.10.0"}
PROGRAMS = Path(__file__).parent / "peer"
GOALS = {"dbos": 10, "procrastinate": 5}
WORKERS = {"dbos": 1, "procrastinate": 2}
"""The number of worker processes with which each was fastest on 2 cores."""

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
WARM_UP = 2.0
PATIENCE = 120.0
"""Seconds until a program of another engine counts as hanging."""


def cache_folder() -> Path:
    """Return the folder of the environments, outside of the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()
    return Path(base) / f"flyte-bench-peers-{sys.version_info.major}.{sys.version_info.minor}"


def python_of(name: str) -> Path:
    """Return the interpreter that has the engine, and install it first if that is needed."""
    folder = cache_folder() / f"{name}-{VERSIONS[name]}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"installing {name} {VERSIONS[name]} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        wanted = [f"{name}=={VERSIONS[name]}", "psycopg[binary]"]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        complete.touch()
    return python


@asynccontextmanager
async def own_database(url: str) -> AsyncIterator[str]:
    """Create an empty database, and yield its URL; drop it afterwards."""
    name = f"bench_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def check_durable(url: str) -> str:
    """Return the version of the database; exit unless its commits survive a loss of power."""
    connection = await asyncpg.connect(url)
    try:
        lax = [name for name in DURABLE if await connection.fetchval(f"SHOW {name}") != "on"]
        version: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    if lax:
        sys.exit(f"{', '.join(lax)} must be on")
    return version


@contextmanager
def a_worker(command: list[str]) -> Iterator[int]:
    """Run a worker of another engine; return its process id once it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            sys.exit("the worker did not start")
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def command_of(name: str, role: str, url: str, *more: float) -> list[str]:
    """Return the command of a program of another engine."""
    program = PROGRAMS / f"{name}_program.py"
    return [str(python_of(name)), str(program), role, url, *map(str, more)]


async def measure_peer(name: str, url: str, clients: int, seconds: float, workers: int) -> Figures:
    """Measure the units of work that another engine with so many workers does."""
    async with own_database(url) as own:
        with ExitStack() as stack:
            command = command_of(name, "worker", own, clients, seconds)
            pids = [stack.enter_context(a_worker(command)) for _ in range(workers)]
            found = await asyncio.to_thread(
                subprocess.run,
                command_of(name, "load", own, clients, seconds, *pids),
                stdout=subprocess.PIPE,
                check=True,
                timeout=seconds + PATIENCE,
            )
    figures: Figures = json.loads(found.stdout)
    return figures


async def measure_flyte(url: str, clients: int, seconds: float) -> Figures:
    """Measure the cycles of a server on the same PostgreSQL."""
    async with own_database(url) as own:
        watching = await asyncpg.connect(own)
        with scratch() as folder:
            server = Server(folder, own)
            server.start()
            try:
                await prepare(await connect(server.port), 10)
                await cycles(server, clients, WARM_UP)
                client, database = time.process_time(), await cpu_of_backends(watching)
                found = await cycles(server, clients, seconds)
                client = time.process_time() - client
                database = await cpu_of_backends(watching) - database
            finally:
                server.stop()
                await watching.close()
    return {
        "per_s": found["cycles_per_s"],
        "worker_cpu_ms": found["server_cpu_us_per_cycle"] / 1000,
        "client_cpu_ms": client / found["cycles"] * 1000,
        "database_cpu_ms": database / found["cycles"] * 1000,
    }


async def cpu_of_backends(connection: asyncpg.Connection) -> float:
    """Return the CPU seconds of the processes that serve a database."""
    return sum([cpu_of(row["pid"]) for row in await connection.fetch(BACKENDS)])


async def measure_peers(
    url: str, counts: list[int], seconds: float, rounds: int, workers: dict[str, int]
) -> list[Figures]:
    """Measure all engines in turns."""
    rows: list[Figures] = []
    for clients in counts:
        runs: dict[str, list[Figures]] = {name: [] for name in ("flyte", *VERSIONS)}
        loads: list[float] = []
        for _ in range(rounds):
            runs["flyte"].append(await measure_flyte(url, clients, seconds))
            for name in VERSIONS:
                runs[name].append(await measure_peer(name, url, clients, seconds, workers[name]))
            loads.append(os.getloadavg()[0])
        rows += [
            {
                "engine": f"{name} {VERSIONS.get(name, '')}".strip(),
                "clients": clients,
                "workers": workers.get(name, 1),
                **compared(found, runs["flyte"]),
                "wanted": GOALS.get(name, "") if clients == 32 else "",
                "load": median(loads),
            }
            for name, found in runs.items()
        ]
    return rows


def compared(found: list[Figures], own: list[Figures]) -> Figures:
    """Return medians, and those of the ratios of Flyte's figures of the same round."""
    pairs = list(zip(found, own, strict=True))
    return {
        **{name: median(run[name] for run in found) for name in found[0]},
        "flyte_times": median(ours["per_s"] / run["per_s"] for run, ours in pairs),
        "cpu_times": median(cpu_of_unit(run) / cpu_of_unit(ours) for run, ours in pairs),
    }


def cpu_of_unit(figures: Figures) -> float:
    """Return the CPU of a unit of work in the engine and the database, without the clients."""
    cpu: float = figures["worker_cpu_ms"] + figures["database_cpu_ms"]
    return cpu


async def run(options: argparse.Namespace) -> None:
    version = await check_durable(options.store)
    for name in VERSIONS:
        python_of(name)
    counts = [int(each) for each in options.clients.split(",")]
    workers = {"dbos": options.dbos_workers, "procrastinate": options.procrastinate_workers}
    found = await measure_peers(options.store, counts, options.seconds, options.rounds, workers)
    print(f"PostgreSQL {version}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print(table(found))


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument(
        "--store", metavar="URL", required=True, help="PostgreSQL, as a role that makes databases"
    )
    parser.add_argument("--clients", metavar="NUMBERS", default="32,128")
    for name in VERSIONS:
        parser.add_argument(f"--{name}-workers", metavar="N", type=int, default=WORKERS[name])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
