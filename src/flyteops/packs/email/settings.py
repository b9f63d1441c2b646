"""The settings of the pack."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self, get_args

import msgspec

from flyteops.errors import Problem
from flyteops.packs.email.address import parse_addresses
from flyteops.packs.email.smtp import SmtpServer, Tls
from flyteops.sdk import Reader
from flyteops.sdk.environment import certificates, positive_seconds

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How mail leaves."""

    smtp: SmtpServer
    sender: str = ""
    attempts: int = 4

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
        )
        reader.finish()
        return settings


def _smtp(reader: Reader, timeout: float, ca_cert_file: Path | None) -> SmtpServer:
    nowhere: tuple[str, int | None] = ("", None)
    host, port = reader.require("SMTPSERVER", _server, "the mail server, such as mail.example.com:587", nowhere)
    user = reader.read("FLYTE_EMAIL_USER", str.strip, None)
    tls = reader.read("FLYTE_EMAIL_TLS", _tls, "offered" if user is None else "required")
    if user is not None and tls == "offered":
        message = "with a login say required, implicit or off: the password would be told to whoever does not offer TLS"
        reader.problems.append(Problem("FLYTE_EMAIL_TLS", message))
    password = reader.read("FLYTE_EMAIL_PASSWORD", str, "")
    return SmtpServer(
        host=host, port=port, tls=tls, user=user, password=password, timeout=timeout, ca_cert_file=ca_cert_file
    )  # fmt: skip


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
    message = f"{text!r} is none of {', '.join(get_args(Tls))}"
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
