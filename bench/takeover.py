"""The first start on a database of the original: ``python -m bench.takeover --store URL``.

Each round starts a server on an empty database and on a full one: the time until it responds, and
until everything is converted. The rate counts from the time when the server would respond on the
empty one. The server's program is an argument, to measure two versions side by side:
``--flyte one/bin/flyte --flyte two/bin/flyte``.
"""

import argparse
import asyncio
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from pymongo import AsyncMongoClient

from bench.backend import place

STATES = ("NEW", "PENDING", "SUCCESS")
PART = 5000
LIMIT = 1800.0
"""Seconds after which a server counts as stuck."""

CONVERTED = re.compile(r"\d+ executions of an earlier server were taken over")

FLOWS = [f"flow-{number}" for number in range(20)]


def actions(number: int, rng: random.Random, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield the actions of an execution in the original's format.

    One in half of the executions, two in the others.
    """
    flow = rng.choice(FLOWS)
    began = now - timedelta(seconds=rng.randrange(86_400 * 100))
    run = secrets.token_hex(12)
    for step in range(1 + number % 2):
        length = 2 if number % 1000 == 0 and step == number % 2 else 3
        history = [
            {"value": state, "time": began + timedelta(seconds=10 * step + at)}
            for at, state in enumerate(STATES[:length])
        ]
        event = {
            "name": "ReceivedMessage",
            "pack": {"_id": "Chat", "name": "Chat", "labels": None},
            "payload": {
                "message": "deploy the application",
                "channelId": "general",
                "user": {"id": "U1", "name": "Somebody"},
            },
            "createdAt": datetime(1, 1, 1, tzinfo=UTC),
            "receivedAt": history[0]["time"],
        }
        yield {
            "_id": secrets.token_hex(12),
            "name": "Run",
            "packName": "Shell",
            "packLabels": {"env": "prod"},
            "input": {"command": "date", "times": 3.0},
            "state": history[-1],
            "states": history,
            "correlationId": run,
            "flowName": flow,
            "flowUUID": f"uuid-{flow}",
            "stepId": f"step-{step}",
            "context": {"channel": "general"},
            "trigger": event,
            **({"result": event} if length == len(STATES) else {}),
        }


async def fill(url: str, executions: int) -> None:
    """Write the flows and executions of the original."""
    rng, now = random.Random(1), datetime.now(UTC)
    async with AsyncMongoClient(url, tz_aware=True) as client:
        database = client.get_default_database()
        trigger = {"name": "ReceivedMessage", "packName": "Chat"}
        command = {"name": "Run", "packName": "Shell", "input": {"command": "date"}}
        steps = [{"id": f"step-{step}", "event": trigger, "command": command} for step in range(2)]
        flows = [
            {"uuid": f"uuid-{name}", "name": name, "description": "", "steps": steps}
            for name in FLOWS
        ]
        await database.flow.insert_many([dict(each) for each in flows])
        await database.flowHistory.insert_many([dict(each) for each in flows])
        await database.action.create_index([("correlationId", 1)])
        part: list[dict[str, Any]] = []
        for number in range(executions):
            part += actions(number, rng, now)
            if len(part) >= PART or number == executions - 1:
                await database.audit.insert_many(part)
                await database.action.insert_many(part)
                part = []


@contextmanager
def serving(program: str, store: str, port: int, log: Path) -> Iterator[None]:
    """Run a server."""
    environ = {**os.environ, "FLYTE_STORE": store, "FLYTE_PORT": str(port)}
    with log.open("w") as target, tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [program, "serve"], cwd=folder, env=environ, stdout=target, stderr=target
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def seconds_until_live(port: int, began: float) -> float:
    """Return the seconds until ``/health/live`` responds."""
    while time.perf_counter() - began < LIMIT:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5):
                return time.perf_counter() - began
        except (OSError, urllib.error.URLError):
            time.sleep(0.02)
    sys.exit("The server does not answer.")


def seconds_until_converted(log: Path, began: float) -> float:
    """Return the seconds until the log reports the end of the conversion."""
    while time.perf_counter() - began < LIMIT:
        if CONVERTED.search(log.read_text()):
            return time.perf_counter() - began
        time.sleep(0.05)
    sys.exit("The server does not say that everything was taken over.")


async def measure(program: str, url: str, executions: int) -> dict[str, float]:
    """Start a server on databases of its own; return the figures."""
    empty, _ = await start(program, url, 0)
    live, converted = await start(program, url, executions)
    return {
        "empty_s": empty,
        "live_s": live,
        "converted_s": converted,
        "executions_per_s": executions / (converted - empty),
    }


async def start(program: str, url: str, executions: int) -> tuple[float, float]:
    """Start a server on a database with so many executions.

    Return the time until it responds, and the time until all of them are converted.
    """
    async with place(url) as (store, _):
        if executions:
            await fill(store, executions)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            log, began = Path(folder) / "log", time.perf_counter()
            with serving(program, store, port, log):
                live = seconds_until_live(port, began)
                return live, seconds_until_converted(log, began) if executions else live


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, metavar="URL", help="a MongoDB server")
    parser.add_argument("--executions", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--flyte",
        action="append",
        metavar="PROGRAM",
        help="the server's program; may be given again",
    )
    given = parser.parse_args()
    programs = given.flyte or [str(Path(sys.executable).with_name("flyte"))]
    found: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
    for _ in range(given.rounds):
        for program in programs:
            found[program].append(asyncio.run(measure(program, given.store, given.executions)))
    for program, rounds in found.items():
        row = {name: median(each[name] for each in rounds) for name in rounds[0]}
        print(f"{program}: " + ", ".join(f"{name} {value:,.2f}" for name, value in row.items()))


if __name__ == "__main__":
    main()
