"""The pack: its command and its events."""

from collections.abc import Mapping
from typing import Any

import msgspec

from flyteops.errors import FlyteError
from flyteops.packs.email.mailbox import Mailbox
from flyteops.packs.email.message import SendEmail, listed, write_mail
from flyteops.packs.email.received import ReceivedEmail
from flyteops.packs.email.reception import MailReceiver
from flyteops.packs.email.settings import EmailSettings
from flyteops.packs.email.smtp import MailDelivery, RefusedRecipient, SmtpServer, connect
from flyteops.packs.legacy_input import read_input
from flyteops.sdk import Event, Pack, fatal


class _Echo(msgspec.Struct, rename="camel", kw_only=True):
    """The part of the input that the events repeat."""

    from_: str = msgspec.field(name="from")
    to: list[str]
    subject: str
    body: str
    is_html_email: bool
    refused: list[RefusedRecipient] = []


class EmailSent(_Echo, rename="camel", kw_only=True):
    """The server accepted the message, for all recipients but those in `refused`."""

    message_id: str


class SendEmailFailed(_Echo, rename="camel", kw_only=True):
    """Nothing was sent, as far as is known; the original pack called the reason `Err`."""

    error: str
    original_error: str = msgspec.field(name="Err")


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack; its settings are on its page."""
    settings = EmailSettings.read(environ)
    pack = Pack("Email")
    if settings.smtp is not None:
        _declare_send_email(pack, settings, settings.smtp)
    if settings.reception is not None:
        _declare_received_email(pack, settings.reception)
    return pack


def _declare_send_email(pack: Pack, settings: EmailSettings, server: SmtpServer) -> None:
    sent, not_sent = (
        pack.event("EmailSent", EmailSent),
        pack.event("SendEmailFailed", SendEmailFailed, failure=True),
    )

    @pack.command("SendEmail", events=[sent, not_sent], takes=SendEmail)
    # Any input; the original's rules apply to it.
    async def send_email(raw: Any) -> Event:  # noqa: ANN401
        try:
            asked = read_input(raw, SendEmail)
        except msgspec.ValidationError as error:
            return fatal(f"Could not unmarshal input for 'SendEmail' command: {error}")
        asked.from_ = asked.from_ or settings.sender
        refused: list[RefusedRecipient] = []
        try:
            letter = write_mail(asked, now=pack.clock().now())
            delivery = MailDelivery(server, letter)
            refused = delivery.refused
            await delivery.run(attempts=settings.attempts, pause=pack.clock().back_off)
        except FlyteError as error:
            echo = _echo(asked, refused)
            return not_sent(SendEmailFailed(**echo, error=str(error), original_error=str(error)))
        return sent(EmailSent(**_echo(asked, refused), message_id=letter.id))

    @pack.check("SMTP")
    async def check() -> str:
        async with connect(server) as smtp:
            secured = "" if smtp.get_transport_info("ssl_object") is None else " over TLS"
        return f"connected to {server.place}{secured}{f' as {server.user}' if server.user else ''}"


def _declare_received_email(pack: Pack, reception: MailReceiver) -> None:
    received = pack.event("ReceivedEmail", ReceivedEmail)

    @pack.source(name="mailbox")
    async def receive() -> None:
        await reception.listen(pack, received)

    @pack.check("IMAP")
    async def check() -> str:
        box = Mailbox(reception.server)
        try:
            await box.open()
            unread = len(await box.unread())
        finally:
            box.close()
        return f"opened {reception.server.place}: {unread} unread"


def _echo(asked: SendEmail, refused: list[RefusedRecipient]) -> dict[str, Any]:
    return {
        "from_": asked.from_ or "",
        "to": listed(asked.to),
        "subject": asked.subject or "",
        "body": asked.body or "",
        "is_html_email": bool(asked.is_html_email),
        "refused": refused,
    }
