"""A pack as a child of `flyte dev`: it ends when its parent does, for any reason."""

import asyncio
import sys

from flyteops.errors import FlyteError
from flyteops.sdk import Environment, Pack
from flyteops.sdk.environment import configure_logging
from flyteops.server.signals import stop_at_end_of_input, stop_on_signal


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
