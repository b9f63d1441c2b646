"""Who may say what, and where."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from flyteops.packs.chatops.message import User

Reason = Literal["person", "channel"]


class Person(msgspec.Struct, frozen=True):
    """Somebody in a chat: the user as flows see him, and the names by which rules may mean him.

    Only what people cannot choose for themselves counts as a name.
    """

    user: User
    names: frozenset[str]

    @classmethod
    def known_as(cls, user: User, names: Iterable[str]) -> "Person":
        """Make a person; absent names do not count."""
        return cls(user, _plain(name for name in names if name))


class Permission(msgspec.Struct, frozen=True):
    """Which people may do something, in which channels; None stands for all of them."""

    people: frozenset[str] | None = None
    channels: frozenset[str] | None = None

    @classmethod
    def of(cls, people: Iterable[str] | None, channels: Iterable[str] | None) -> "Permission":
        """Make a permission for names of people and channels, whatever their case, with or without `@` and `#`."""
        return cls(None if people is None else _plain(people), None if channels is None else _plain(channels))

    def refusal(self, person: Person, channel: Iterable[str]) -> Reason | None:
        """Say what is in the way, None if nothing is; `channel` has the names of a channel."""
        if self.people is not None and not self.people & person.names:
            return "person"
        if self.channels is not None and not self.channels & _plain(channel):
            return "channel"
        return None


def _plain(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lstrip("@#").casefold() for name in names)
