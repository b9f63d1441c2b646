"""A mailbox on an IMAP server: unread mail is new, and reported mail is marked as read."""

import asyncio
import hashlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError, LoginError

from flyteops.errors import FlyteError, ForbiddenError, UnavailableError
from flyteops.sdk.tls import create_ssl_context, untrusted

Pause = Callable[[float], Awaitable[None]]

_SEEN = b"\\Seen"


class ImapServer(msgspec.Struct, frozen=True, kw_only=True):
    """The IMAP server and the account."""

    host: str
    port: int
    implicit_tls: bool
    user: str
    folder: str = "INBOX"
    password: str = ""
    timeout: float = 30.0
    ca_cert_file: Path | None = None

    def __repr__(self) -> str:
        return f"ImapServer({self.place!r})"

    @property
    def place(self) -> str:
        """A readable name of the mailbox."""
        return f"{self.folder} of {self.user} at {self.host}:{self.port}"


class Mail(msgspec.Struct, frozen=True):
    """A message in the mailbox; `content` is its beginning if it is larger than requested.

    `key` is the same for every reading of the message by any program.
    """

    uid: int
    key: str
    content: bytes
    size: int
    received_at: datetime


class _Client(IMAPClient):  # type: ignore[misc] # it comes without types
    def heard_of_mail(self) -> bool:
        """Return whether an answer since the last call reported mail."""
        return bool(self._imap.response("EXISTS")[1] != [None])


class Mailbox:
    """One connection.

    Its calls raise `UnavailableError` for temporary errors, and other errors for those that an
    operator must fix. Calls to the server block, so they are made in threads, one at a time;
    waiting for mail is not, so it can be broken off.
    """

    def __init__(self, server: ImapServer) -> None:
        self._server = server
        self._client: Any = None
        self._validity = 0
        self._idle = False

    async def open(self) -> None:
        """Connect, log in and choose the folder."""
        await asyncio.to_thread(self._open)

    async def unread(self) -> list[int]:
        """Return the unread messages, oldest first."""
        return await asyncio.to_thread(self._unread)

    async def fetch(self, uid: int, most: int) -> Mail | None:
        """Return a message, or its first bytes if there are more than `most`; None if it has gone.

        It stays unread.
        """
        return await asyncio.to_thread(self._fetch, uid, most)

    async def mark(self, uid: int) -> None:
        """Mark a message as read."""
        await asyncio.to_thread(self._mark, uid)

    async def changed(self, within: float, pause: Pause) -> None:
        """Wait until there may be mail, for `within` seconds at most.

        A server that cannot report changes is just checked again after that.
        """
        if not await asyncio.to_thread(self._listen):
            await pause(within)
        elif self._idle:
            await self._readable(within)
            await asyncio.to_thread(self._stop_listening)

    def close(self) -> None:
        """Close the connection without logging out."""
        if self._client is not None:
            with suppress(OSError):
                # Wakes a thread that reads, for which closing would wait.
                self._client.socket().shutdown(socket.SHUT_RDWR)
            with suppress(OSError, IMAPClientError):
                self._client.shutdown()

    # ---------------------------------------------------------------------------------- in a thread

    def _open(self) -> None:
        server = self._server
        with self._told():
            context = create_ssl_context(server.ca_cert_file)
            client = _Client(
                server.host,
                server.port,
                ssl=server.implicit_tls,
                ssl_context=context if server.implicit_tls else None,
                timeout=server.timeout,
            )
            self._client = client
            client.normalise_times = False
            self._secure(context)
            client.login(server.user, server.password)
            try:
                selected = client.select_folder(server.folder)
            except IMAPClientError as error:
                message = f"{server.place} cannot be opened: {_said(error)}"
                raise FlyteError(message) from error
        if not selected.get(b"READ-WRITE") or _SEEN not in selected.get(b"PERMANENTFLAGS", [_SEEN]):
            message = f"{server.place} is read-only, so messages cannot be marked as read"
            raise FlyteError(message)
        self._validity = int(selected[b"UIDVALIDITY"])

    def _secure(self, context: ssl.SSLContext) -> None:
        client, server = self._client, self._server
        if server.implicit_tls:
            return
        if client.has_capability("STARTTLS"):
            client.starttls(context)
        elif not ipaddress.ip_address(client.socket().getpeername()[0]).is_loopback:
            message = (
                f"{server.host}:{server.port} does not offer STARTTLS; the password is not sent"
                " unencrypted"
            )
            raise FlyteError(message)

    def _unread(self) -> list[int]:
        with self._told():
            while True:
                self._client.heard_of_mail()
                found = self._client.search(["UNSEEN", "UNDELETED"])
                # Mail that arrived just now is not in the result, and the server reports its
                # arrival only once.
                if found or not self._client.heard_of_mail():
                    return sorted(found)

    def _fetch(self, uid: int, most: int) -> Mail | None:
        with self._told():
            found = self._client.fetch(
                [uid], [f"BODY.PEEK[]<0.{most}>", "RFC822.SIZE", "INTERNALDATE"]
            ).get(uid, {})
        if b"BODY[]<0>" not in found:
            return None
        server = self._server
        identity = (
            f"{server.host}:{server.port} {server.user} {server.folder} {self._validity} {uid}"
        )
        key = f"email-{hashlib.sha256(identity.encode()).hexdigest()}"
        return Mail(
            uid, key, found[b"BODY[]<0>"] or b"", found[b"RFC822.SIZE"], found[b"INTERNALDATE"]
        )

    def _mark(self, uid: int) -> None:
        with self._told():
            self._client.add_flags([uid], [_SEEN], silent=True)

    def _listen(self) -> bool:
        """Ask the server to report changes; return whether it can.

        If there are some already, it is not asked.
        """
        with self._told():
            if not self._client.has_capability("IDLE"):
                return False
            _, happened = self._client.noop()
            self._idle = not any(b"EXISTS" in each for each in happened)
            if self._idle:
                self._client.idle()
            return True

    def _stop_listening(self) -> None:
        with self._told():
            self._client.idle_done()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Convert an error to one with a one-line message."""
        server = self._server
        try:
            yield
        except LoginError as error:
            message = (
                f"{server.host}:{server.port} refuses the login of {server.user}: {_said(error)}"
            )
            raise ForbiddenError(message) from error
        except (IMAPClientError, OSError, ValueError) as error:
            certificate = untrusted(error)
            if certificate is not None:
                message = (
                    f"{server.host}:{server.port} presented a certificate that is not trusted:"
                    f" {certificate.verify_message}"
                )
                raise FlyteError(message) from error
            message = f"{server.host}:{server.port}: {_said(error)}"
            raise UnavailableError(message) from error

    # ---------------------------------------------------------------------------- in the event loop

    async def _readable(self, within: float) -> None:
        """Wait until the server sends something, or hangs up."""
        sock = self._client.socket()
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return
        loop, said = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sock.fileno(), said.set)
        try:
            async with asyncio.timeout(within):
                await said.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(sock.fileno())


def _said(error: Exception) -> str:
    """Return the server's message on one line.

    `IMAPClient` passes some on as the representation of bytes.
    """
    text = " ".join(str(error).split())
    return re.sub(r"""b(['"])(.*?)\1""", r"\2", text) or type(error).__name__
