"""A server process that can be killed and started again in the same place."""

import asyncio
import os
import re
import signal
import sys


class Node:
    """A server process on a store, on a port that it picks at its first start and keeps; `log`
    is what it has said so far.
    """

    def __init__(self, store, **environ):
        self.store = store
        self.environ = environ
        self.port = 0
        self.process = None
        self.log = ""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def warnings(self):
        return [line for line in self.log.splitlines() if " INFO " not in line]

    async def run(self):
        """Start it; it need not get as far as to listen."""
        env = {
            key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "LOG"))
        }
        env |= {"FLYTE_STORE": self.store, "FLYTE_PORT": str(self.port), **self.environ}
        self.listens = asyncio.get_running_loop().create_future()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flyteops", "serve", env=env, stderr=asyncio.subprocess.PIPE
        )
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stderr:
            self.log += line.decode()
            if (
                found := re.search(rb"listens on http://127\.0\.0\.1:(\d+)", line)
            ) and not self.listens.done():
                self.listens.set_result(int(found[1]))
        if not self.listens.done():
            self.listens.set_result(0)

    async def start(self):
        """Start it; return when it listens."""
        await self.run()
        self.port = await self.listens
        assert self.port, self.log

    async def end(self, number=signal.SIGTERM):
        """Send it a signal if it still runs; return its exit code, once all that it has said is
        in the log.
        """
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.over()

    async def over(self):
        """Return its exit code when it has ended by itself, as `end` does."""
        code = await self.process.wait()
        await self.reading
        return code


async def only_line(store, code=1, **environ):
    """Start a server that refuses to, and return the only line that it prints."""
    server = Node(store, **environ)
    await server.run()
    try:
        async with asyncio.timeout(30):
            assert await server.over() == code, server.log
    finally:
        await server.end(signal.SIGKILL)
    (line,) = server.log.splitlines()
    assert line.startswith("flyte: ") or "Flyte" in line
    assert "secret" not in line
    return line
