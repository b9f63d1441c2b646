"""Received mail as flows get it: every mail can be read somehow, however broken it is."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import msgspec

from flyteops.packs.email import charset, header
from flyteops.packs.email.automatic import is_automatic
from flyteops.packs.email.damage import tolerate
from flyteops.packs.email.filename import safe_filename
from flyteops.packs.email.fold import id_parts
from flyteops.packs.email.html import MAX_LENGTH, html_text
from flyteops.packs.email.word import decoded, raw_decoded

# The parser's work grows with each of these, and with their products.
_MAX_PARTS = 100
_MAX_LINES = 200_000
_MAX_BOUNDARIES = 50
_MAX_DELIMITERS = 2_000
_MAX_HEADER_LENGTH = 10_000
_DEEPEST = 20


class _Policy(policy.EmailPolicy):
    """Reads no more of a header than its beginning."""

    def header_fetch_parse(self, name: str, value: str) -> Any:  # noqa: ANN401 - the base class's
        return super().header_fetch_parse(name, value[:_MAX_HEADER_LENGTH])


_POLICY = _Policy()


class AttachedFile(msgspec.Struct, rename="camel"):
    """An attached file, its content in base64."""

    filename: str
    content_type: str
    size: int
    content: str


class ReceivedEmail(msgspec.Struct, rename="camel", kw_only=True):
    """A mail: addresses are bare, and absent fields are empty.

    `defects` are the defects of the headers that hold addresses, such as `from-name-has-address`.
    `truncated` means that it was larger than the limit, or had too many parts, so that something is
    missing.
    """

    message_id: str = ""
    from_: str = msgspec.field(name="from", default="")
    from_name: str = ""
    to: list[str] = []
    cc: list[str] = []
    reply_to: list[str] = []
    subject: str = ""
    date: datetime | None = None
    received_at: datetime
    in_reply_to: str = ""
    references: list[str] = []
    defects: list[str] = []
    automatic: bool = False
    text: str = ""
    html: str = ""
    attachments: list[AttachedFile] = []
    size: int
    truncated: bool = False


def read_email(content: bytes, *, size: int, received_at: datetime) -> ReceivedEmail:
    """Read a message, or the beginning of one that is `size` bytes long."""
    read = b"\n".join(content.split(b"\n", _MAX_LINES)[:_MAX_LINES])
    received = ReceivedEmail(
        size=size,
        received_at=received_at.astimezone(UTC),
        truncated=len(read) < max(size, len(content)),
    )
    message = _parse(read)
    if message is None:
        received.text, received.truncated = read.decode("utf-8", "replace"), True
        return received
    _read_headers(message, received)
    parts = list(_parts(message, _DEEPEST))
    received.truncated = received.truncated or len(parts) > _MAX_PARTS
    for part in parts[:_MAX_PARTS]:
        _read_part(part, received)
    if received.html and not received.text.strip():
        received.text = html_text(received.html)
        received.truncated = received.truncated or len(received.html) > MAX_LENGTH
    return received


def _parse(content: bytes) -> EmailMessage | None:
    """Return the message; None if it was made to keep the parser busy, or to break it."""
    boundaries = content.count(b"boundary=")
    if boundaries > _MAX_BOUNDARIES or (boundaries and content.count(b"\n--") > _MAX_DELIMITERS):
        return None
    message = tolerate(lambda: message_from_bytes(content, policy=_POLICY), None)
    return message if isinstance(message, EmailMessage) else None


def _read_headers(message: EmailMessage, received: ReceivedEmail) -> None:
    _read_addresses(message, received)
    received.message_id = _header(message, "Message-ID")
    received.subject = _header(message, "Subject")
    received.in_reply_to = _header(message, "In-Reply-To")
    received.references = [
        part for part in id_parts(_header(message, "References")) if not part.startswith("(")
    ]
    received.date = _date(_header(message, "Date"))
    received.automatic = is_automatic(message)


def _read_addresses(message: EmailMessage, received: ReceivedEmail) -> None:
    sender, to, cc, reply_to = (
        _mailboxes(message, name) for name in ("From", "To", "Cc", "Reply-To")
    )
    received.from_name, received.from_ = sender.found[0] if sender.found else (sender.unread, "")
    received.to, received.cc, received.reply_to = to.addresses, cc.addresses, reply_to.addresses
    if len(sender.found) > 1:
        sender.defects.add(header.SEVERAL)
    if not sender.found:
        sender.defects.add(header.MISSING)
    named = {"from": sender, "to": to, "cc": cc, "reply-to": reply_to}
    received.defects = [
        f"{name}-{defect}" for name, each in named.items() for defect in sorted(each.defects)
    ]


def _mailboxes(message: EmailMessage, name: str) -> header.Mailboxes:
    return header.read_mailboxes(
        [str(value) for each, value in message.raw_items() if each.lower() == name.lower()]
    )


def _read_part(part: EmailMessage, received: ReceivedEmail) -> None:
    kind, filename = part.get_content_type(), _filename(part)
    is_file = bool(filename) or _disposition(part) == "attachment"
    if kind == "text/plain" and not is_file:
        received.text = _joined(received.text, _text(part))
    elif kind == "text/html" and not is_file:
        received.html = _joined(received.html, _text(part))
    else:
        content = _content(part)
        encoded = base64.b64encode(content).decode()
        received.attachments = [
            *received.attachments,
            AttachedFile(filename, kind, len(content), encoded),
        ]


def _parts(message: EmailMessage, deepest: int) -> Iterator[EmailMessage]:
    """Return the parts of a message; a message inside of it is one part."""
    inner: Any = message.get_payload()
    if message.get_content_maintype() != "multipart" or not isinstance(inner, list) or not deepest:
        yield message
        return
    for part in inner:
        yield from _parts(part, deepest - 1)


def _content(part: EmailMessage) -> bytes:
    content = tolerate(lambda: _raw_content(part), b"")
    return content if isinstance(content, bytes) else b""


def _raw_content(part: EmailMessage) -> object:
    if part.is_multipart():
        return b"".join(each.as_bytes() for each in part.get_payload())  # type: ignore[union-attr]
    return part.get_payload(decode=True)


def _text(part: EmailMessage) -> str:
    name = tolerate(part.get_content_charset, None) or ""
    return charset.decode(_content(part), name).replace("\r\n", "\n")


def _header(message: EmailMessage, name: str) -> str:
    """Return a header in readable form, "" without one."""
    return decoded(_raw_header(message, name))


def _raw_header(message: EmailMessage, name: str) -> str:
    value = next((value for each, value in message.raw_items() if each.lower() == name.lower()), "")
    return str(value)[:_MAX_HEADER_LENGTH]


def _filename(part: EmailMessage) -> str:
    for name, parameter in (("Content-Disposition", "filename"), ("Content-Type", "name")):
        # The older interface keeps the bytes of a name, and its declared charset.
        plain = Message()
        plain["X"] = raw_decoded(_raw_header(part, name))
        value = tolerate(partial(plain.get_param, parameter, "", header="X"), "")
        if isinstance(value, tuple):
            value = charset.decode(value[2].encode("latin-1", "replace"), value[0] or "")
        if value:
            return safe_filename(decoded(str(value)))
    return ""


def _disposition(part: EmailMessage) -> str | None:
    return tolerate(part.get_content_disposition, None)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _joined(before: str, text: str) -> str:
    return f"{before}\n{text}" if before else text
