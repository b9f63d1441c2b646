"""Permissions: people and channels allowed for a command."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from flyteops.packs.chatops.message import User

Reason = Literal["person", "channel"]


class Person(msgspec.Struct, frozen=True):
    """A person in a chat: the user as seen by flows, and the names that rules may use for them.

    Only names that people cannot choose for themselves count.
    """

    user: User
    names: frozenset[str]

    @classmethod
    def known_as(cls, user: User, names: Iterable[str]) -> "Person":
        """Make a person; absent names do not count."""
        return cls(user, _plain(name for name in names if name))


class Permission(msgspec.Struct, frozen=True):
    """The people who may do something, and the channels; None stands for all of them."""

    people: frozenset[str] | None = None
    channels: frozenset[str] | None = None

    @classmethod
    def of(cls, people: Iterable[str] | None, channels: Iterable[str] | None) -> "Permission":
        """Make a permission from names of people and channels.

        Names may be in any case, with or without `@` and `#`.
        """
        return cls(
            None if people is None else _plain(people),
            None if channels is None else _plain(channels),
        )

    def refusal(self, person: Person, channel: Iterable[str]) -> Reason | None:
        """Return the reason for a refusal, or None if it is allowed.

        `channel` has the names of a channel.
        """
        if self.people is not None and not self.people & person.names:
            return "person"
        if self.channels is not None and not self.channels & _plain(channel):
            return "channel"
        return None


def _plain(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lstrip("@#").casefold() for name in names)
