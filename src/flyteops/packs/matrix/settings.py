"""The settings of the pack."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from flyteops.errors import Problem
from flyteops.sdk import Reader
from flyteops.sdk.environment import api_url, certificates, flag, seconds, token

_USER_ID = re.compile(r"@[^\s:@]+:[^\s@/]+")
_SERVER_NAME = re.compile(r"[A-Za-z0-9.:\[\]-]+")

USED_BY = "or FLYTE_MATRIX_USER and FLYTE_MATRIX_PASSWORD"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The homeserver and the credentials of the pack: a token, or a user and a password."""

    homeserver: str
    token: str = ""
    user: str = ""
    password: str = ""
    ca_cert_file: Path | None = None

    def __repr__(self) -> str:
        return f"Account({self.homeserver!r}, {self.user!r})"

    @property
    def proof(self) -> str:
        """The variable to fix when the homeserver rejects the credentials."""
        return "FLYTE_MATRIX_TOKEN" if self.token else "FLYTE_MATRIX_PASSWORD"


class Invites(msgspec.Struct, frozen=True):
    """The users who may invite the bot into rooms: by id, and by server for all of its users."""

    names: frozenset[str] = frozenset()

    def allow(self, user_id: str) -> bool:
        """Return whether an invitation of a user is accepted."""
        return user_id.startswith("@") and not self.names.isdisjoint(
            (user_id, user_id.partition(":")[2])
        )


class MatrixSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the pack; events older than `catch_up` seconds on arrival are left out."""

    account: Account
    invites: Invites
    catch_up: float
    notices: bool

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; raise `SettingsError` with every fault at once."""
        reader = Reader(environ)
        settings = cls(
            account=_account(reader),
            invites=reader.read("FLYTE_MATRIX_INVITES", _invites, Invites()),
            catch_up=reader.read("FLYTE_MATRIX_CATCH_UP", seconds, 24 * 3600.0),
            notices=reader.read("FLYTE_MATRIX_NOTICES", flag, False),
        )
        reader.finish()
        return settings


def _account(reader: Reader) -> Account:
    known = len(reader.problems)
    account = Account(
        homeserver=reader.require(
            "FLYTE_MATRIX_HOMESERVER",
            api_url,
            "the homeserver, such as https://matrix.example.org",
            "",
        ),
        token=reader.read_secret("FLYTE_MATRIX_TOKEN", token, ""),
        user=reader.read("FLYTE_MATRIX_USER", _user, ""),
        password=reader.read_secret("FLYTE_MATRIX_PASSWORD", str, ""),
        ca_cert_file=reader.read("FLYTE_MATRIX_CA_CERT_FILE", certificates, None),
    )
    if any("TOKEN" in each.path or "PASSWORD" in each.path for each in reader.problems[known:]):
        return account
    if account.token and account.password:
        message = "FLYTE_MATRIX_PASSWORD is set as well; unset one of them"
        reader.problems.append(Problem("FLYTE_MATRIX_TOKEN", message))
    if not account.token and not account.password:
        message = f"is not set: the access token of the bot, {USED_BY}"
        reader.problems.append(Problem("FLYTE_MATRIX_TOKEN", message))
    if account.password and not account.user:
        reader.problems.append(Problem("FLYTE_MATRIX_USER", "is not set: the user of the password"))
    return account


def _user(text: str) -> str:
    user = text.strip()
    if not re.fullmatch(rf"{_USER_ID.pattern}|[^\s:@]+", user):
        message = f"{text!r} is not a user such as @flyte:example.org, or flyte"
        raise ValueError(message)
    return user


def _invites(text: str) -> Invites:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not (_USER_ID if name.startswith("@") else _SERVER_NAME).fullmatch(name):
            message = (
                f"{name!r} is neither a user such as @ann:example.org nor a server such as"
                " example.org"
            )
            raise ValueError(message)
    return Invites(frozenset(names))
