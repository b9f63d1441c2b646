"""A mail server for tests: aiosmtpd, with real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult


@dataclass
class Mail:
    """A message as the server got it, with its envelope."""

    sender: str
    recipients: list[str]
    content: bytes
    options: list[str]
    secured: bool

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content.replace(b"\r\n", b"\n"), policy=policy.default)


@dataclass
class MailServer:
    """`mails` holds what was taken; `answers` what it says to RCPT and DATA, by address or
    `DATA`, one after the other.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    mails: list[Mail] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    place: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def _next(self, what: str) -> str:
        return self.answers[what].pop(0) if self.answers.get(what) else "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        answer = self._next(address)
        self.seen.append(f"RCPT {address} {answer[:3]}")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self._next("DATA")
        self.seen.append(f"DATA {answer[:3]}")
        if answer == "hang up":
            server.transport.abort()
            return "250 too late"
        if answer.startswith("2"):
            secured = server.transport.get_extra_info("ssl_object") is not None
            self.mails.append(
                Mail(
                    envelope.mail_from,
                    envelope.rcpt_tos,
                    envelope.content,
                    envelope.mail_options,
                    secured,
                )
            )
            self.arrived.set()
        return answer

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self._next("QUIT") == "hang up":
            server.transport.abort()
        return "221 Bye"

    @staticmethod
    def authenticate(
        server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        return AuthResult(
            success=(data.login, data.password) == (b"flyte", b"s3cret"), handled=False
        )


@asynccontextmanager
async def mail_server(
    tls: Any = None, answers: dict[str, list[str]] | None = None, **options: Any
) -> AsyncIterator[MailServer]:
    """Run a server; `tls` is spoken from the start, `tls_context` among the options is offered
    as STARTTLS.
    """
    served, loop = MailServer(answers or {}), asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            served, hostname="mx.test", loop=loop, authenticator=served.authenticate, **options
        )

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    served.place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield served
