"""A pack as a child of `flyte dev`: it ends when its parent does, for any reason."""

import asyncio
import os
import sys

from flyteops.cli.halt import stop_on_signal
from flyteops.errors import FlyteError
from flyteops.sdk import Environment, Pack
from flyteops.sdk.environment import configure_logging


def run_attached(pack: Pack, environment: Environment) -> int:
    """Run a pack until a signal comes or standard input ends; return the exit code."""
    configure_logging(environment.log_level)
    try:
        asyncio.run(_run(pack, environment))
    except FlyteError as error:
        sys.stderr.write(f"{pack.name} stopped: {error}\n")
        return 1
    return 0


async def _run(pack: Pack, environment: Environment) -> None:
    async with stop_on_signal() as stop:
        watch = asyncio.create_task(stop_at_end_of_input(stop))
        try:
            await pack.serve(environment, stop=stop)
        finally:
            watch.cancel()


async def stop_at_end_of_input(stop: asyncio.Event) -> None:
    """Set `stop` when standard input ends, at the latest with the process at its other end."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb", 0)
    )
    try:
        await reader.read()
        stop.set()
    finally:
        transport.close()
