"""The commands that a team has declared: the datastore item `chatops`, read and checked."""

from typing import Any

import msgspec

from flyteops.errors import InputError, Problem
from flyteops.packs.chatops.pattern import Pattern
from flyteops.packs.chatops.permission import Permission
from flyteops.sdk import seconds

DATA_KEY = "chatops"

RESERVED = ("help", "approve", "refuse")
"""What a command cannot begin with, because it means something in every chat."""


class Confirmation(msgspec.Struct, frozen=True):
    """Who must say yes to a command before it is one, and within how many seconds."""

    permission: Permission
    within: float
    by_self: bool


class Command(msgspec.Struct, frozen=True):
    """One command."""

    name: str
    pattern: Pattern
    help: str
    permission: Permission
    confirmation: Confirmation | None = None


class Catalog(msgspec.Struct, frozen=True):
    """All commands; with a `prefix` they begin with it, unless the bot is addressed anyway."""

    commands: tuple[Command, ...] = ()
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


def read_catalog(value: Any) -> Catalog:
    """Read the value of the datastore item; raise `InputError` with every fault."""
    try:
        file = msgspec.convert(value, _File)
    except msgspec.ValidationError as error:
        raise InputError(str(error), problems=[Problem("", str(error))]) from error
    problems: list[Problem] = []
    commands: list[Command] = []
    for number, each in enumerate(file.commands):
        try:
            command = _command(msgspec.convert(each, _Command), file.groups)
            if any(command.name == other.name for other in commands):
                message = f"there is another command {command.name!r}; say `name`"
                raise InputError(message)
            commands.append(command)
        except (msgspec.ValidationError, InputError, ValueError) as error:
            problems.append(Problem(f"commands[{number}]", str(error)))
    if problems:
        raise InputError("; ".join(map(str, problems)), problems=problems)
    return Catalog(tuple(commands), file.prefix.strip())


def _command(given: _Command, groups: dict[str, list[str]]) -> Command:
    pattern = Pattern.parse(given.pattern)
    if pattern.opening[0].casefold() in RESERVED:
        message = f"a command cannot begin with {pattern.opening[0]!r}, which means something of its own"
        raise InputError(message)
    permission = Permission.of(_people(given.allow, groups), given.allow.channels)
    confirmation = None
    if given.confirm is not None:
        approvers = _people(given.confirm, groups)
        within = seconds(given.confirm.within)
        if within <= 0:
            message = f"{given.confirm.within!r} leaves no time to confirm"
            raise InputError(message)
        by = Permission(permission.people) if approvers is None else Permission.of(approvers, None)
        confirmation = Confirmation(by, within, given.confirm.by_self)
    return Command(given.name or " ".join(pattern.opening), pattern, given.help, permission, confirmation)


def _people(rule: _Rule | _Confirm, groups: dict[str, list[str]]) -> list[str] | None:
    """Return who is meant: nobody said is everybody, and an empty list is nobody."""
    if rule.users is None and rule.groups is None:
        return None
    unknown = [name for name in rule.groups or () if name not in groups]
    if unknown:
        message = f"there is no group {unknown[0]!r}; there are: {', '.join(groups) or 'none'}"
        raise InputError(message)
    return [*(rule.users or ()), *(user for name in rule.groups or () for user in groups[name])]
