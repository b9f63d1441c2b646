"""The settings of the pack."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self, get_args
from urllib.parse import unquote, urlsplit

import msgspec

from flyteops.errors import Problem
from flyteops.packs.email.address import parse_addresses
from flyteops.packs.email.mailbox import ImapServer
from flyteops.packs.email.reception import MailReceiver
from flyteops.packs.email.smtp import SmtpServer, Tls
from flyteops.sdk import Reader
from flyteops.sdk.environment import byte_count, certificates, positive_seconds

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?")


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings for sending and receiving mail; there is at least one of both."""

    smtp: SmtpServer | None = None
    sender: str = ""
    attempts: int = 4
    reception: MailReceiver | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; raise `SettingsError` with every fault at once."""
        reader = Reader(environ)
        timeout = reader.read("FLYTE_EMAIL_TIMEOUT", positive_seconds, 30.0)
        ca_cert_file = reader.read("FLYTE_EMAIL_CA_CERT_FILE", certificates, None)
        settings = cls(
            smtp=_smtp(reader, timeout, ca_cert_file),
            sender=reader.read("FLYTE_EMAIL_FROM", _sender, ""),
            attempts=1 + reader.read("FLYTE_EMAIL_RETRIES", _retries, 3),
            reception=_reception(reader, timeout, ca_cert_file),
        )
        reader.finish()
        return settings


def _smtp(reader: Reader, timeout: float, ca_cert_file: Path | None) -> SmtpServer | None:
    if (
        not reader.environ.get("SMTPSERVER", "").strip()
        and reader.environ.get("FLYTE_EMAIL_IMAP_URL", "").strip()
    ):
        return None
    nowhere: tuple[str, int | None] = ("", None)
    host, port = reader.require(
        "SMTPSERVER", _server, "the mail server, such as mail.example.com:587", nowhere
    )
    user = reader.read("FLYTE_EMAIL_USER", str.strip, None)
    tls = reader.read("FLYTE_EMAIL_TLS", _tls, "offered" if user is None else "required")
    if user is not None and tls == "offered":
        message = (
            "with a login, use required, implicit or off: otherwise the password could be sent"
            " without TLS"
        )
        reader.problems.append(Problem("FLYTE_EMAIL_TLS", message))
    password = reader.read("FLYTE_EMAIL_PASSWORD", str, "")
    return SmtpServer(
        host=host,
        port=port,
        tls=tls,
        user=user,
        password=password,
        timeout=timeout,
        ca_cert_file=ca_cert_file,
    )


def _reception(reader: Reader, timeout: float, ca_cert_file: Path | None) -> MailReceiver | None:
    server = reader.read("FLYTE_EMAIL_IMAP_URL", _mailbox, None)
    own_password = reader.read("FLYTE_EMAIL_IMAP_PASSWORD", str, None)
    poll_interval = reader.read("FLYTE_EMAIL_POLL_INTERVAL", positive_seconds, 60.0)
    size_limit = reader.read("FLYTE_EMAIL_SIZE_LIMIT", byte_count, None)
    if server is None:
        return None
    password = own_password or reader.read("FLYTE_EMAIL_PASSWORD", str, "")
    server = msgspec.structs.replace(
        server, password=password, timeout=timeout, ca_cert_file=ca_cert_file
    )
    return MailReceiver(server=server, poll_interval=poll_interval, size_limit=size_limit)


def _mailbox(text: str) -> ImapServer:
    """Read `imaps://user@host:port/folder`; the scheme `imap` is for STARTTLS."""
    message = f"{text!r} is not a mailbox such as imaps://flyte@mail.example.com/INBOX"
    try:
        url = urlsplit(text.strip())
        port = url.port or {"imap": 143, "imaps": 993}.get(url.scheme, 0)
    except ValueError as error:
        raise ValueError(message) from error
    if url.password is not None:
        message = "contains a password; set it in FLYTE_EMAIL_IMAP_PASSWORD"
        raise ValueError(message)
    if not port or not url.hostname or not url.username or url.query or url.fragment:
        raise ValueError(message)
    return ImapServer(
        host=url.hostname,
        port=port,
        implicit_tls=url.scheme == "imaps",
        user=unquote(url.username),
        folder=unquote(url.path.strip("/")) or "INBOX",
    )


def _server(text: str) -> tuple[str, int | None]:
    found = _SERVER.fullmatch(text.strip())
    if found is None or (found[2] and not 0 < int(found[2]) < 65536):
        message = f"{text!r} is not a mail server such as mail.example.com:587"
        raise ValueError(message)
    return found[1].strip("[]"), int(found[2]) if found[2] else None


def _tls(text: str) -> Tls:
    for choice in get_args(Tls):
        if text.strip().lower() == choice:
            return choice  # type: ignore[no-any-return]
    message = f"{text!r} is not one of {', '.join(get_args(Tls))}"
    raise ValueError(message)


def _sender(text: str) -> str:
    if len(parse_addresses([text])) != 1:
        message = f"{text!r} is more than one address"
        raise ValueError(message)
    return text.strip()


def _retries(text: str) -> int:
    if not text.strip().isdecimal() or int(text) > 10:
        message = f"{text!r} is not a number from 0 to 10"
        raise ValueError(message)
    return int(text)
