"""The rooms that the bot is in, and their names."""

import re
from collections.abc import Callable

import msgspec

from flyteops.errors import FlyteError, ForbiddenError, InputError, NotFoundError
from flyteops.packs.chatops.cache import Cache
from flyteops.packs.chatops.message import Channel, ChannelFound
from flyteops.packs.matrix.api import MatrixApi
from flyteops.packs.matrix.timeline import JoinedRoom, read_events

NAMES_KEPT = 60.0
"""Seconds for which the address of a room is not looked up again."""

ENCRYPTED = "the room is encrypted, and this pack neither reads nor writes encrypted messages"


class MatrixRoom(Channel, frozen=True):
    """A room as seen by flows; `alias` is its main address."""

    alias: str = ""
    members: int = 0
    encrypted: bool = False


class RoomFound(ChannelFound, rename="camel"):
    """The room with a name."""

    conversation: MatrixRoom


class _Known(msgspec.Struct):
    members: int = 0
    is_encrypted: bool = False


class Rooms:
    """The rooms reported by the homeserver; everything else is looked up."""

    def __init__(self, api: MatrixApi, now: Callable[[], float]) -> None:
        self._api = api
        self._known: dict[str, _Known] = {}
        self._ids: Cache[str] = Cache(NAMES_KEPT, now)
        self._names: Cache[frozenset[str]] = Cache(NAMES_KEPT, now)

    def learn(self, room_id: str, news: JoinedRoom) -> None:
        """Record the number of members of a room, and whether it is encrypted.

        Once it is, it stays so.
        """
        known = self._known.setdefault(room_id, _Known())
        members = news.summary.get("m.joined_member_count")
        if isinstance(members, int):
            known.members = members
        events = read_events([*news.state.events, *news.timeline.events])
        known.is_encrypted |= any(event.type == "m.room.encryption" for event in events)

    def is_direct(self, room_id: str) -> bool:
        """Return whether the bot is alone with one person."""
        known = self._known.get(room_id)
        return known is not None and known.members == 2

    async def is_encrypted(self, room_id: str) -> bool:
        """Return whether messages in a room are encrypted."""
        known = self._known.get(room_id)
        if known is not None:
            return known.is_encrypted
        try:
            await self._api.get("rooms", room_id, "state", "m.room.encryption")
        except (NotFoundError, ForbiddenError):
            return False
        return True

    async def resolve(self, name: str) -> str:
        """Return the id of a room, given by id or address.

        The part before the colon is enough for those of our own server.
        """
        name = name.strip()
        if name.startswith("!"):
            return name
        alias = f"#{name.removeprefix('#')}"
        if ":" not in alias:
            alias = f"{alias}:{(await self._api.identity()).server}"
        return await self._ids.get(alias, lambda: self._look_up(alias))

    async def open(self, name: str) -> str:
        """Return the id of a room where the bot may post.

        Raise `ForbiddenError` for an encrypted one.
        """
        room_id = await self.resolve(name)
        if await self.is_encrypted(room_id):
            raise ForbiddenError(ENCRYPTED)
        return room_id

    async def names(self, room_id: str) -> frozenset[str]:
        """Return the addresses of a room on our own server, whole and before the colon.

        The set is empty if the homeserver does not answer. The display name of a room does not
        count: any creator of a room chooses it. Nor does an address that rules, which ignore case
        and signs in front, would take for another.
        """
        try:
            return await self._names.get(room_id, lambda: self._look_up_names(room_id))
        except FlyteError:
            return frozenset()

    async def find(self, name: str) -> MatrixRoom:
        """Return the room with an address or id."""
        try:
            room_id = await self.resolve(name)
        except (NotFoundError, InputError) as error:
            raise NotFoundError("can't find channel with such name") from error
        shown, topic = await self._state(room_id, "name"), await self._state(room_id, "topic")
        alias = await self._state(room_id, "canonical_alias", "alias")
        known = self._known.get(room_id, _Known())
        name = shown or alias.removeprefix("#").partition(":")[0]
        return MatrixRoom(
            room_id, name, topic, alias, known.members, await self.is_encrypted(room_id)
        )

    async def _look_up(self, alias: str) -> str:
        return str((await self._api.get("directory", "room", alias)).get("room_id") or "")

    async def _look_up_names(self, room_id: str) -> frozenset[str]:
        server = (await self._api.identity()).server
        listed = (await self._api.get("rooms", room_id, "aliases")).get("aliases")
        aliases = (
            [alias for alias in listed if _is_unmistakable(alias)]
            if isinstance(listed, list)
            else []
        )
        return frozenset(aliases) | {alias.removesuffix(f":{server}") for alias in aliases}

    async def _state(self, room_id: str, kind: str, key: str = "") -> str:
        try:
            value = (await self._api.get("rooms", room_id, "state", f"m.room.{kind}")).get(
                key or kind
            )
        except NotFoundError:
            return ""
        return value if isinstance(value, str) else ""


def _is_unmistakable(alias: object) -> bool:
    return (
        isinstance(alias, str)
        and alias == alias.casefold()
        and re.fullmatch(r"#[^\s!@#:][^\s:]*:\S+", alias) is not None
    )
