"""Measure a chain: one flow of 400 steps, and one pack on the SDK that computes `fib(10)` in each.

The time runs from the event until the action after the last result reaches a pack that waits for
it. Beside it is the time of as many rounds of three plain requests on a kept connection, which
shows the speed of the machine. ``--against CHECKOUT`` measures another commit as well, in turns.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import uvloop

from bench.client import Connection, connect
from bench.goal import Figures, table
from bench.load import expect
from bench.server import Server, cpu_of, scratch

REQUESTS = 3
"""The requests of the machine's figure for each step."""

HERE = Path(__file__).parent.parent


class Site(NamedTuple):
    """A server and a pack of one commit."""

    server: Server
    pack: int
    connection: Connection
    waiting: Connection


def chain(steps: int) -> dict[str, object]:
    """Return a flow of so many commands in a row, and one at the end for the benchmark itself."""
    compute = {"packName": "Fib", "name": "Compute", "input": {"number": "10"}}
    first = {"id": "1", "event": {"packName": "Source", "name": "Begin"}, "command": compute}
    event = {"packName": "Fib", "name": "Computed"}
    others = [
        {"id": str(number), "dependsOn": [str(number - 1)], "event": event, "command": compute}
        for number in range(2, steps + 1)
    ]
    end = {
        "id": "end",
        "dependsOn": [str(steps)],
        "event": event,
        "command": {"packName": "Source", "name": "End"},
    }
    return {"name": "chain", "steps": [first, *others, end]}


@contextmanager
def a_pack(port: int, checkout: Path) -> Iterator[int]:
    """Run the pack as its users do; return its process id."""
    environ = {**os.environ, "FLYTE_API": f"http://127.0.0.1:{port}", "LOGLEVEL": "error"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "bench" / "fib.py")],
        env={**environ, "PYTHONPATH": str(checkout / "src")},
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


async def prepared(stack: ExitStack, checkout: Path, steps: int) -> Site:
    """Start a server and its pack, and save the flow."""
    server = Server(stack.enter_context(scratch()), source=checkout / "src")
    server.start()
    stack.callback(server.stop)
    connection, waiting = await connect(server.port), await connect(server.port)
    await expect(connection, "/v1/packs", {"name": "Source"}, 201)
    pack = stack.enter_context(a_pack(server.port, checkout))
    while b'"Fib"' not in (await connection.request("GET", "/v1/packs"))[1]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await expect(connection, "/v1/flows", chain(steps), 201)
    return Site(server, pack, connection, waiting)


async def run_chain(site: Site, steps: int) -> Figures:
    """Run the chain once; return its seconds, the CPU of server and pack, and the machine's."""
    taking = asyncio.ensure_future(
        site.waiting.request("POST", "/v1/packs/Source/actions/take?wait=60")
    )
    await asyncio.sleep(0.1)
    server, pack, began = site.server.cpu(), cpu_of(site.pack), time.perf_counter()
    await expect(site.connection, "/v1/packs/Source/events", {"event": "Begin"}, 202)
    status, answer = await taking
    took = time.perf_counter() - began
    server, pack = site.server.cpu() - server, cpu_of(site.pack) - pack
    if status != 200:
        raise RuntimeError(f"the chain did not end: {status}")
    href: str = msgspec.json.decode(answer)["links"][0]["href"]
    await expect(site.connection, href[href.index("/v1/") :], {"event": "Ended"}, 202)
    began = time.perf_counter()
    for _ in range(steps * REQUESTS):
        await site.connection.request("GET", "/health/live")
    return {
        "chain_s": took,
        "machine_s": time.perf_counter() - began,
        "server_cpu_s": server,
        "pack_cpu_s": pack,
        "load": os.getloadavg()[0],
    }


async def measure_chain(checkouts: dict[str, Path], steps: int, rounds: int) -> list[Figures]:
    """Run the chain with each commit in turns; return medians.

    `ratio` compares the time with that of the first commit, round by round.
    """
    with ExitStack() as stack:
        sites = {name: await prepared(stack, path, steps) for name, path in checkouts.items()}
        runs: dict[str, list[Figures]] = {name: [] for name in sites}
        for site in sites.values():
            await run_chain(site, steps)
        for _ in range(rounds):
            for name, site in sites.items():
                runs[name].append(await run_chain(site, steps))
    first = next(iter(runs.values()))
    return [
        {
            "commit": name,
            "steps": steps,
            **{key: median(run[key] for run in found) for key in found[0]},
            "best_s": min(run["chain_s"] for run in found),
            "ratio": median(
                run["chain_s"] / base["chain_s"] for run, base in zip(found, first, strict=True)
            ),
        }
        for name, found in runs.items()
    ]


def main() -> None:
    """Run the measurement and print its table."""
    parser = argparse.ArgumentParser(prog="python -m bench.chain", description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout")
    options = parser.parse_args()
    checkouts = {} if options.against is None else {"before": options.against.resolve()}
    checkouts["this"] = HERE
    print(table(uvloop.run(measure_chain(checkouts, options.steps, options.rounds))))


if __name__ == "__main__":
    main()
