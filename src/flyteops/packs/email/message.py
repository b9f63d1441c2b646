"""Outgoing mail: the input of the command, and the message that it becomes."""

import base64
import binascii
import mimetypes
import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

import msgspec

from flyteops.errors import InputError, Problem
from flyteops.packs.email.address import parse_addresses
from flyteops.packs.email.fold import MAX_ID_LENGTH, MailPolicy, id_parts

_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_MAX_REFERENCES = 50
_CONTENT_TYPE = re.compile(r"([\w.+-]+)/([\w.+-]+)", re.ASCII)


_POLICY = MailPolicy(linesep="\r\n", cte_type="7bit")
_UTF8_POLICY = _POLICY.clone(utf8=True)


class Attachment(msgspec.Struct, rename="camel"):
    """An attached file, its content in base64; without a type it follows from the name."""

    filename: str
    content: str
    content_type: str = ""


class SendEmail(msgspec.Struct, rename="camel"):
    """The input of the command; a field that is null counts as absent."""

    from_: str | None = msgspec.field(name="from", default="")
    to: str | list[str] | None = None
    subject: str | None = ""
    body: str | None = ""
    is_html_email: bool | None = False
    html: str | None = ""
    cc: str | list[str] | None = None
    bcc: str | list[str] | None = None
    reply_to: str | list[str] | None = None
    in_reply_to: str | None = ""
    references: str | list[str] | None = None
    attachments: list[Attachment] | None = None


class OutgoingMail(msgspec.Struct, frozen=True):
    """A message with its envelope: bare addresses, each once."""

    id: str
    message: EmailMessage
    sender: str
    recipients: list[str]

    @property
    def needs_utf8(self) -> bool:
        """Whether an address has letters that only servers with SMTPUTF8 accept."""
        return not all(address.isascii() for address in [self.sender, *self.recipients])

    def encode(self) -> bytes:
        """Return the message in its wire format."""
        return self.message.as_bytes(policy=_UTF8_POLICY if self.needs_utf8 else _POLICY)


def listed(addresses: str | list[str] | None) -> list[str]:
    """Return addresses as a list, in whichever form they were given."""
    return [addresses] if isinstance(addresses, str) else addresses or []


def write_mail(asked: SendEmail, *, now: datetime) -> OutgoingMail:
    """Make the message; raise `InputError` with all faults of the input."""
    reader = _Reader()
    senders = reader.addresses("from", [asked.from_ or ""])
    to, cc, bcc = (
        reader.addresses(name, listed(getattr(asked, name))) for name in ("to", "cc", "bcc")
    )
    reply_to = reader.addresses("replyTo", listed(asked.reply_to))
    in_reply_to = reader.ids("inReplyTo", [asked.in_reply_to or ""])
    references = reader.ids("references", listed(asked.references))
    files = [
        reader.file(f"attachments[{number}]", file)
        for number, file in enumerate(asked.attachments or [])
    ]
    if len(senders) != 1 and not reader.problems:
        reader.problems.append(Problem("from", "is not a single address"))
    if not [*to, *cc, *bcc] and not reader.problems:
        reader.problems.append(Problem("to", "there is no recipient"))
    reader.finish()

    message = EmailMessage(policy=_POLICY)
    _set_addresses(message, From=senders, To=to, Cc=cc, Reply_To=reply_to)
    message["Subject"] = _LINE_BREAKS.sub(" ", asked.subject or "").strip()
    message["Date"] = format_datetime(now.astimezone(UTC))
    message["Message-ID"] = message_id = make_msgid(domain=senders[0].domain)
    message["Auto-Submitted"] = "auto-generated"  # so that automatic replies are not sent
    if in_reply_to:
        message["In-Reply-To"] = " ".join(in_reply_to)
    if thread := _thread(references, in_reply_to):
        message["References"] = " ".join(thread)
    _set_text(message, asked)
    for name, content, (main, sub) in files:
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)
    recipients = dict.fromkeys(address.addr_spec for address in (*to, *cc, *bcc))
    return OutgoingMail(message_id, message, senders[0].addr_spec, list(recipients))


class _Reader:
    """Reads the parts of an input, and collects the faults until the end."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def addresses(self, name: str, texts: list[str]) -> list[Address]:
        try:
            return parse_addresses(texts)
        except ValueError as error:
            self.problems.append(Problem(name, str(error)))
            return []

    def ids(self, name: str, texts: list[str]) -> list[str]:
        """Return ids of messages as they are, in any form, with the comments between them."""
        found: list[str] = []
        for text in filter(None, map(str.strip, texts)):
            parts = id_parts(text)
            if not text.isprintable():
                self.problems.append(
                    Problem(name, f"{text!r} is not the id of a message such as <1@example.com>")
                )
            elif not text.isascii() or any(len(part) > MAX_ID_LENGTH for part in parts):
                shown = f"{text[:100]}…" if len(text) > 100 else text
                message = (
                    f"{shown!r} cannot be sent: ids of messages are ASCII, at most {MAX_ID_LENGTH}"
                    " characters each"
                )
                self.problems.append(Problem(name, message))
            else:
                found += (
                    [f"<{text}>"]
                    if parts == [text] and "@" in text and text[0] not in "<("
                    else parts
                )
        return found

    def file(self, name: str, file: Attachment) -> tuple[str, bytes, tuple[str, str]]:
        content = b""
        try:
            content = base64.b64decode("".join(file.content.split()), validate=True)
        except (binascii.Error, ValueError):
            self.problems.append(Problem(f"{name}.content", "is not base64"))
        given = (
            file.content_type
            or mimetypes.guess_type(file.filename)[0]
            or "application/octet-stream"
        )
        found = _CONTENT_TYPE.fullmatch(given)
        if found is None or found[1].lower() in ("multipart", "message"):
            self.problems.append(
                Problem(
                    f"{name}.contentType",
                    f"{given!r} is not the type of a file such as application/pdf",
                )
            )
        kind = (found[1], found[2]) if found else ("", "")
        return _LINE_BREAKS.sub(" ", file.filename).strip() or "attachment", content, kind

    def finish(self) -> None:
        if self.problems:
            raise InputError(
                "; ".join(str(problem) for problem in self.problems), problems=self.problems
            )


def _thread(references: list[str], in_reply_to: list[str]) -> list[str]:
    """Return the ids of a thread, the answered message last, each once.

    Of a long thread, these are the first one and the last ones.
    """
    ids = dict.fromkeys(part for part in references if not part.startswith("("))
    answered = [part for part in in_reply_to if part not in ids]
    thread = [*ids, *answered]
    return thread if len(thread) <= _MAX_REFERENCES else [thread[0], *thread[1 - _MAX_REFERENCES :]]


def _set_addresses(message: EmailMessage, **headers: list[Address]) -> None:
    for name, addresses in headers.items():
        if addresses:
            message[name.replace("_", "-")] = addresses


def _set_text(message: EmailMessage, asked: SendEmail) -> None:
    body, html = asked.body or "", asked.html or ""
    if asked.is_html_email or (html and not body):
        message.set_content(body or html, subtype="html")
        return
    message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
