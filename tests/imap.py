"""A mailbox of a test's own on the server that FLYTE_TEST_IMAP names, and a wire to it that can
be cut.
"""

import asyncio
import contextlib
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imapclient import IMAPClient

from tests.late import let_in

URL = os.environ.get("FLYTE_TEST_IMAP", "")
PASSWORD = "s3cret"


@dataclass
class Post:
    """A mailbox, seen by whoever delivers to it; `client` has its inbox open."""

    host: str
    port: int
    user: str
    client: Any

    def url(self, port: int | None = None, folder: str = "") -> str:
        return f"imap://{self.user}@{self.host}:{port or self.port}/{folder}"

    def deliver(self, content: bytes, *flags: bytes) -> None:
        self.client.append("INBOX", content.replace(b"\n", b"\r\n"), flags)

    def unread(self) -> list[int]:
        self.client.noop()
        return self.client.search(["UNSEEN"])


@contextlib.contextmanager
def post() -> Iterator[Post]:
    parts = urlsplit(URL)
    assert parts.hostname is not None, "FLYTE_TEST_IMAP names no server: .ci/dovecot starts one"
    client = IMAPClient(parts.hostname, parts.port, ssl=False, timeout=10)
    user = f"test-{secrets.token_hex(6)}"
    with client:
        client.login(user, PASSWORD)
        client.select_folder("INBOX")
        yield Post(parts.hostname, parts.port or 143, user, client)


def write_certificate(folder: Path) -> str:
    """Write the certificate that the server shows into a file, and return its path."""
    parts, context = urlsplit(URL), ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = IMAPClient(parts.hostname, parts.port, ssl=False, timeout=10)
    client.starttls(context)
    shown = client.socket().getpeercert(binary_form=True)
    client.shutdown()
    file = folder / "imap.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(shown))
    return str(file)


@dataclass
class Wire:
    """Carries bytes between a client and the server, without what the server says it can and is
    not to.
    """

    url: str = URL
    port: int = 0
    missing: tuple[bytes, ...] = ()
    connections: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _carrying: "set[asyncio.Task[None]]" = field(default_factory=set)
    _is_over: bool = False

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what comes on a new connection; close one that was accepted too late."""
        if self._is_over:
            writer.transport.abort()
            return
        self._writers.append(writer)
        task = asyncio.create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def end(self) -> None:
        """Carry no more, also of connections that had just begun."""
        self._is_over = True
        carrying = [*self._carrying]
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)
        self.cut()
        await let_in()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.url)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
            self.connections += 1
            self._writers.append(far_writer)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for word in self.missing:
                data = data.replace(b" " + word, b"")
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def wire(*missing: bytes, url: str = URL) -> AsyncIterator[Wire]:
    carried = Wire(url, missing=missing)
    server = await asyncio.start_server(carried.begin, "127.0.0.1", 0)
    carried.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield carried
        finally:
            await carried.end()
