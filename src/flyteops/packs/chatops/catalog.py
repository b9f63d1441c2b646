"""The commands that a team has declared: the datastore item `chatops`, read and checked."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from flyteops.errors import InputError, Problem
from flyteops.packs.chatops.pattern import CommandPattern
from flyteops.packs.chatops.permission import Permission
from flyteops.sdk import seconds

DATA_KEY = "chatops"

RESERVED = ("help", "approve", "refuse")
"""First words that a command cannot have, because they have a meaning in every chat."""


class Confirmation(msgspec.Struct, frozen=True):
    """The people who must confirm a command before it is sent, and the seconds they have for it."""

    permission: Permission
    within: float
    by_self: bool


class ChatCommand(msgspec.Struct, frozen=True):
    """One command."""

    name: str
    pattern: CommandPattern
    help: str
    permission: Permission
    confirmation: Confirmation | None = None


class CommandCatalog(msgspec.Struct, frozen=True):
    """All commands; with a `prefix` they begin with it, unless the bot is addressed anyway."""

    commands: tuple[ChatCommand, ...] = ()
    prefix: str = ""

    @property
    def has_places(self) -> bool:
        """Whether some command depends on the channel."""
        return any(command.permission.channels is not None for command in self.commands)


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    users: list[str] | None = None
    groups: list[str] | None = None
    channels: list[str] | None = None


class _Confirm(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    users: list[str] | None = None
    groups: list[str] | None = None
    within: str = "10m"
    by_self: bool = False


class _Command(msgspec.Struct, forbid_unknown_fields=True):
    pattern: str
    name: str = ""
    help: str = ""
    allow: _Rule = msgspec.field(default_factory=_Rule)
    confirm: _Confirm | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    commands: list[Any]
    prefix: str = ""
    groups: dict[str, list[str]] = {}


K = TypeVar("K", bound=msgspec.Struct)


class _Examiner:
    """Reads a declaration, and collects every fault with its place."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._names: set[str] = set()

    def read(self, where: str, value: object, kind: type[K]) -> K | None:
        """Read an object field by field, so that each wrong one is reported."""
        if not isinstance(value, dict):
            self._report(where, "Expected `object`")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        before = len(self.problems)
        for name, each in value.items():
            if name not in fields:
                self._report(where, f"Object contains unknown field `{name}`{_meant(name, fields)}")
                continue
            try:
                msgspec.convert(each, fields[name].type)
            except msgspec.ValidationError as error:
                self._report(where, _placed(str(error), name))
        # A misspelt key is not missing as well.
        is_misspelt = any(name not in fields for name in value)
        for name, field in fields.items():
            if field.required and name not in value and not is_misspelt:
                self._report(where, f"Object missing required field `{name}`")
        return msgspec.convert(value, kind) if len(self.problems) == before else None

    def command(
        self, where: str, value: object, groups: dict[str, list[str]]
    ) -> ChatCommand | None:
        """Read a command; None if it has a fault."""
        before = len(self.problems)
        given = self.read(where, value, _Command)
        if given is None:
            pattern = value.get("pattern") if isinstance(value, dict) else None
            if isinstance(pattern, str):
                self._pattern(where, pattern)
            return None
        pattern = self._pattern(where, given.pattern)
        permission = Permission.of(self._people(where, given.allow, groups), given.allow.channels)
        confirmation = (
            None
            if given.confirm is None
            else self._confirmation(where, given.confirm, permission, groups)
        )
        if pattern is None or len(self.problems) > before:
            return None
        name = given.name or " ".join(pattern.opening)
        if name in self._names:
            self._report(where, f"another command is called {name!r}; give this one a `name`")
            return None
        self._names.add(name)
        return ChatCommand(name, pattern, given.help, permission, confirmation)

    def _pattern(self, where: str, text: str) -> CommandPattern | None:
        try:
            pattern = CommandPattern.parse(text)
        except InputError as error:
            self._report(where, str(error))
            return None
        if pattern.opening[0].casefold() in RESERVED:
            self._report(
                where,
                f"a command cannot begin with {pattern.opening[0]!r}, which has a meaning of its"
                " own",
            )
            return None
        return pattern

    def _confirmation(
        self, where: str, given: _Confirm, permission: Permission, groups: dict[str, list[str]]
    ) -> Confirmation | None:
        approvers = self._people(where, given, groups)
        by = Permission(permission.people) if approvers is None else Permission.of(approvers, None)
        try:
            within = seconds(given.within)
        except ValueError as error:
            self._report(where, str(error))
            return None
        if within <= 0:
            self._report(where, f"{given.within!r} is too short to confirm")
        return Confirmation(by, within, given.by_self)

    def _people(
        self, where: str, rule: _Rule | _Confirm, groups: dict[str, list[str]]
    ) -> list[str] | None:
        """Return the people of a rule: None means everybody, and an empty list means nobody."""
        if rule.users is None and rule.groups is None:
            return None
        for name in rule.groups or ():
            if name not in groups:
                self._report(
                    where, f"there is no group {name!r}; there are: {', '.join(groups) or 'none'}"
                )
        known = [user for name in rule.groups or () for user in groups.get(name, ())]
        return [*(rule.users or ()), *known]

    def _report(self, where: str, message: str) -> None:
        self.problems.append(Problem(where, message))


def read_catalog(value: object) -> CommandCatalog:
    """Read the value of the datastore item; raise `InputError` with every fault."""
    examiner = _Examiner()
    file = examiner.read("", value, _File)
    if file is None and isinstance(value, dict):
        file = _legible(value)
    commands = (
        []
        if file is None
        else [
            examiner.command(f"commands[{number}]", each, file.groups)
            for number, each in enumerate(file.commands)
        ]
    )
    if examiner.problems or file is None:
        raise InputError("; ".join(map(str, examiner.problems)), problems=examiner.problems)
    return CommandCatalog(
        tuple(command for command in commands if command is not None), file.prefix.strip()
    )


def _legible(value: dict[str, Any]) -> _File:
    """Return the readable part of a file, so that faults of its commands are reported as well."""
    commands, groups = value.get("commands"), value.get("groups")
    people = groups.items() if isinstance(groups, dict) else ()
    legible = {
        str(name): [each for each in users if isinstance(each, str)]
        for name, users in people
        if isinstance(users, list)
    }
    return _File(commands if isinstance(commands, list) else [], groups=legible)


def _meant(name: object, known: Iterable[str]) -> str:
    near = get_close_matches(str(name)[:40], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _placed(message: str, name: str) -> str:
    """Return the error of a field in terms of the object: `Expected … - at `$.name[0]``."""
    what, at, place = message.rpartition(" - at `$")
    return f"{what} - at `$.{name}{place}" if at else f"{message} - at `$.{name}`"
