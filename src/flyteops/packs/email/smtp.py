"""Delivery of messages to a mail server."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import aiosmtplib
import msgspec

from flyteops.errors import FlyteError, ForbiddenError, UnavailableError
from flyteops.packs.email.message import OutgoingMail
from flyteops.retry import Backoff, retry_call
from flyteops.sdk.tls import create_ssl_context, untrusted

Tls = Literal["offered", "required", "implicit", "off"]

_PORTS: dict[Tls, int] = {"offered": 25, "required": 587, "implicit": 465, "off": 25}
_BACKOFF = Backoff(first=2, factor=4, limit=60)


class SmtpServer(msgspec.Struct, frozen=True, kw_only=True):
    """The mail server and the account."""

    host: str
    port: int | None = None
    tls: Tls = "offered"
    user: str | None = None
    password: str = ""
    timeout: float = 30.0
    ca_cert_file: Path | None = None

    def __repr__(self) -> str:
        return f"SmtpServer({self.place!r})"

    @property
    def place(self) -> str:
        """The server as `host:port`."""
        return f"{self.host}:{self.port or _PORTS[self.tls]}"


class RefusedRecipient(msgspec.Struct, frozen=True):
    """The server's reply for a recipient that it refuses."""

    address: str
    code: int
    message: str


class MailDelivery:
    """Sends one letter; then `accepted` and `refused` have the result for every recipient."""

    def __init__(self, server: SmtpServer, letter: OutgoingMail) -> None:
        self.accepted: list[str] = []
        self.refused: list[RefusedRecipient] = []
        self._server = server
        self._letter = letter
        self._content = letter.encode()
        self._left = letter.recipients
        self._later: list[RefusedRecipient] = []

    async def run(self, *, attempts: int, pause: Callable[[float], Awaitable[None]]) -> None:
        """Return when a recipient was accepted; raise the reason if none was.

        Temporary errors are retried for the remaining recipients.
        """
        try:
            await retry_call(self._attempt, pause=pause, attempts=attempts, backoff=_BACKOFF)
        except UnavailableError:
            self.refused += self._later
            if not self.accepted:
                raise
        if not self.accepted:
            message = "; ".join(
                f"{each.address}: {each.code} {each.message}" for each in self.refused
            )
            raise FlyteError(message)

    async def _attempt(self) -> None:
        async with connect(self._server) as smtp:
            await smtp.mail(self._letter.sender, options=self._options(smtp), encoding="utf-8")
            refusals = [
                refusal for address in self._left if (refusal := await self._ask(smtp, address))
            ]
            taken = [
                address
                for address in self._left
                if address not in {each.address for each in refusals}
            ]
            if taken:
                await self._hand_over(smtp)
        self.accepted += taken
        self.refused += [each for each in refusals if not _passes(each.code)]
        self._later = [each for each in refusals if _passes(each.code)]
        self._left = [each.address for each in self._later]
        if self._later:
            message = "; ".join(
                f"{each.address}: {each.code} {each.message}" for each in self._later
            )
            raise UnavailableError(message)

    def _options(self, smtp: aiosmtplib.SMTP) -> list[str]:
        options = [f"SIZE={len(self._content)}"] if smtp.supports_extension("size") else []
        if self._letter.needs_utf8:
            if not smtp.supports_extension("smtputf8"):
                message = (
                    f"{self._server.place} does not support addresses with non-ASCII letters"
                    " (SMTPUTF8)"
                )
                raise FlyteError(message)
            options.append("SMTPUTF8")
        return options

    async def _ask(self, smtp: aiosmtplib.SMTP, address: str) -> RefusedRecipient | None:
        try:
            await smtp.rcpt(address, encoding="utf-8")
        except aiosmtplib.SMTPRecipientRefused as error:
            return RefusedRecipient(address, error.code, one_line(error.message))
        return None

    async def _hand_over(self, smtp: aiosmtplib.SMTP) -> None:
        try:
            await smtp.data(self._content)
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError, OSError) as error:
            # A retry would send it twice if it was accepted after all.
            message = (
                f"{self._server.place} did not confirm that it accepted the message:"
                f" {one_line(str(error))}"
            )
            raise FlyteError(message) from error


@asynccontextmanager
async def connect(server: SmtpServer) -> AsyncIterator[aiosmtplib.SMTP]:
    """Connect and log in.

    Raise `UnavailableError` for temporary errors, here and in the block, and other errors for the
    rest.
    """
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port or _PORTS[server.tls],
        use_tls=server.tls == "implicit",
        start_tls={"offered": None, "required": True}.get(server.tls, False),
        username=server.user,
        password=server.password if server.user else None,
        tls_context=None if server.tls == "off" else _tls(server),
        timeout=server.timeout,
    )
    try:
        await smtp.connect()
        yield smtp
        # All is done; an accepted message must not be sent again.
        with suppress(aiosmtplib.SMTPException, OSError):
            await smtp.quit()
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _told(server, error) from error
    finally:
        smtp.close()


def one_line(text: str) -> str:
    """Return a server's message on one line."""
    return " ".join(text.split())


def _tls(server: SmtpServer) -> ssl.SSLContext:
    context = create_ssl_context(server.ca_cert_file)
    if server.tls == "offered":
        # An attacker with a false certificate could as well hide that TLS is offered; no password
        # is sent this way.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _passes(code: int) -> bool:
    return 400 <= code < 500


def _told(server: SmtpServer, error: Exception) -> FlyteError:
    """Return the error with a one-line message."""
    certificate = untrusted(error)
    if certificate is not None:
        return FlyteError(
            f"{server.place} presented a certificate that is not trusted:"
            f" {certificate.verify_message}"
        )
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and not _passes(error.code):
        return ForbiddenError(
            f"{server.place} refuses the login of {server.user}: {error.code}"
            f" {one_line(error.message)}"
        )
    if isinstance(error, aiosmtplib.SMTPResponseException):
        message = f"{error.code} {one_line(error.message)}"
        return (
            UnavailableError(message)
            if _passes(error.code) or error.code < 0
            else FlyteError(message)
        )
    message = f"{server.place}: {one_line(str(error)) or type(error).__name__}"
    if isinstance(error, OSError):  # connections and time-outs are such errors too
        return UnavailableError(message)
    return FlyteError(message)
