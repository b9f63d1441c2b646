"""A connection to a database that is cut, or held up, at a chosen moment: what was sent may be
carried out all the same.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from tests.late import let_in


class Relay:
    """Stands between a store and its database. `url` leads through it."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._marker: bytes | None = None
        self._holds = False
        self._is_down = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = asyncio.Event()
        self.is_cut = asyncio.Event()
        self.url = ""

    def cut_at(self, marker: bytes, *, holds: bool = False) -> None:
        """Cut all connections when the store next sends this, and let none be made until `restore`.

        What holds the marker still reaches the database: at once, or after `deliver` if the relay
        `holds` it.
        """
        self._marker, self._holds = marker, holds
        self.is_cut.clear()
        self._held.clear()

    def restore(self) -> None:
        """Let connections be made again."""
        self._is_down = False

    def deliver(self) -> None:
        """Let the database have what was held."""
        self._held.set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["Relay"]:
        async with await asyncio.start_server(self._join, "127.0.0.1") as listener:
            host, port = listener.sockets[0].getsockname()
            account, at, _ = self._address.netloc.rpartition("@")
            self.url = self._address._replace(netloc=f"{account}{at}{host}:{port}").geturl()
            yield self
            self.deliver()
            await let_in()
            for writer in list(self._writers):
                writer.close()
        # A connection that the end of the test cut short would be left to the garbage collector,
        # which complains.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            writer.close()
            return
        self._writers.add(writer)
        database, to_database = await asyncio.open_connection(
            self._address.hostname, self._address.port
        )
        downwards = asyncio.create_task(self._pass_on(database, writer))
        try:
            await self._pass_up(reader, to_database)
        finally:
            downwards.cancel()
            writer.close()
            to_database.close()
            self._writers.discard(writer)

    async def _pass_up(
        self, reader: asyncio.StreamReader, to_database: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self._marker is not None and self._marker in data:
                    await self._cut(to_database, data)
                    # The database answers before its connection is closed, and nobody reads it.
                    await asyncio.sleep(0.2)
                    break
                to_database.write(data)

    async def _cut(self, to_database: asyncio.StreamWriter, data: bytes) -> None:
        self._marker, self._is_down = None, True
        for each in list(self._writers):
            each.transport.abort()
        self.is_cut.set()
        if self._holds:
            await self._held.wait()
        to_database.write(data)
        await to_database.drain()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not writer.is_closing():
                    writer.write(data)
        writer.close()
