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
def a_worker(command: list[str]) -> Iterator[None]:
    """Run a worker of another engine, once it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            sys.exit("the worker did not start")
        yield
    finally:
        process.kill()
        process.communicate()


def command_of(name: str, role: str, url: str, clients: int, seconds: float) -> list[str]:
    """Return the command of a program of another engine."""
    program = PROGRAMS / f"{name}_program.py"
    return [str(python_of(name)), str(program), role, url, str(clients), str(seconds)]


async def rate_of_peer(
    name: str, url: str, clients: int, seconds: float, workers: int
) -> float:
    """Return the units of work that another engine with so many workers does in a second."""
    async with own_database(url) as own:
        with ExitStack() as stack:
            for _ in range(workers):
                stack.enter_context(a_worker(command_of(name, "worker", own, clients, seconds)))
            found = subprocess.run(
                command_of(name, "load", own, clients, seconds),
                stdout=subprocess.PIPE,
                check=True,
                timeout=seconds + PATIENCE,
            )
    rate: float = json.loads(found.stdout)["rate"]
    return rate


async def rate_of_flyte(url: str, clients: int, seconds: float) -> float:
    """Return the cycles that a server on the same database does in a second."""
    async with own_database(url) as own:
        with scratch() as folder:
            server = Server(folder, own)
            server.start()
            try:
                await prepare(await connect(server.port), 10)
                await cycles(server, clients, WARM_UP)
                return (await cycles(server, clients, seconds))["cycles_per_s"]
            finally:
                server.stop()


async def measure_peers(
    url: str, counts: list[int], seconds: float, rounds: int, workers: dict[str, int]
) -> list[Figures]:
    """Measure all engines in turns; `ratio` is the median of the ratios of the rounds."""
    rows: list[Figures] = []
    for clients in counts:
        runs: dict[str, list[float]] = {name: [] for name in ("flyte", *VERSIONS)}
        loads: list[float] = []
        for _ in range(rounds):
            runs["flyte"].append(await rate_of_flyte(url, clients, seconds))
            for name in VERSIONS:
                rate = await rate_of_peer(name, url, clients, seconds, workers[name])
                runs[name].append(rate)
            loads.append(os.getloadavg()[0])
        for name, rates in runs.items():
            ratios = [own / other for own, other in zip(runs["flyte"], rates, strict=True)]
            rows.append(
                {
                    "engine": f"{name} {VERSIONS.get(name, '')}".strip(),
                    "clients": clients,
                    "workers": workers.get(name, 1),
                    "per_s": median(rates),
                    "lowest": min(rates),
                    "highest": max(rates),
                    "flyte_times": median(ratios),
                    "wanted": GOALS.get(name, "") if clients == 32 else "",
                    "load": median(loads),
                }
            )
    return rows


async def run(options: argparse.Namespace) -> None:
    version = await check_durable(options.store)
    for name in VERSIONS:
        python_of(name)
    counts = [int(each) for each in options.clients.split(",")]
    workers = {"dbos": options.dbos_workers, "procrastinate": options.procrastinate_workers}
    found = await measure_peers(
        options.store, counts, options.seconds, options.rounds, workers
    )
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
