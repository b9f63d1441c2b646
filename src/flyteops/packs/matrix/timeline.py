"""The homeserver's answers, parsed into events for flows.

Many of their fields are written by strangers.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from flyteops.packs.chatops import message as chat
from flyteops.packs.chatops.message import User
from flyteops.packs.matrix.api import MatrixIdentity

_MEDIA = frozenset({"m.image", "m.file", "m.audio", "m.video", "m.sticker"})
_KINDS = _MEDIA | {"m.text", "m.emote", "m.notice", "m.location"}

_MAX_NAME_LENGTH = 255
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+")
_QUOTED = re.compile(r"(?:>[^\n]*\n)+\n?")


class Media(msgspec.Struct, frozen=True, rename="camel"):
    """A file that was sent; `url` is its address at the homeserver, as `mxc://`.

    Name, type and size are given by its sender.
    """

    url: str
    name: str
    mime_type: str = ""
    size: int | None = None


class ReceivedMessage(chat.ReceivedMessage, frozen=True, rename="camel", kw_only=True):
    """A user posted a message or a file; `reply_to` is the message that it answers, or ""."""

    message_type: str = "m.text"
    reply_to: str = ""
    media: Media | None = None


class Joined(msgspec.Struct, frozen=True, rename="camel"):
    """A user joined a room; the bot as well."""

    channel_id: str
    user: User
    timestamp: str


class Reaction(msgspec.Struct, frozen=True):
    """A reaction to a message, mostly one emoji."""

    key: str
    message_id: str


class RoomEvent(msgspec.Struct, frozen=True):
    """An event in a room."""

    type: str
    event_id: str = ""
    sender: str = ""
    state_key: str | None = None
    content: dict[str, Any] = {}
    unsigned: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """A key for it that Flyte accepts: its id, unless a remote server has made up a bad one."""
        is_plain = re.fullmatch(r"[\x21-\x7e]{1,200}", self.event_id) is not None
        return self.event_id if is_plain else hashlib.sha256(self.event_id.encode()).hexdigest()

    @property
    def age(self) -> float:
        """The seconds since it happened, as far as the homeserver knows."""
        age = self.unsigned.get("age")
        return age / 1000 if isinstance(age, int | float) else 0.0

    @property
    def comes(self) -> bool:
        """Whether a user joined the room with it, and did not just change the name."""
        before = _object(self.unsigned.get("prev_content")).get("membership")
        return (
            self.type == "m.room.member"
            and self.content.get("membership") == "join"
            and before != "join"
        )


class _Events(msgspec.Struct, frozen=True):
    events: list[Any] = []


class Timeline(_Events, frozen=True):
    """The last events in a room.

    `limited` means that there were more, to be found before `prev_batch`.
    """

    limited: bool = False
    prev_batch: str = ""


class JoinedRoom(msgspec.Struct, frozen=True):
    """News of a room that the bot is in."""

    timeline: Timeline = Timeline()
    state: _Events = _Events()
    summary: dict[str, Any] = {}


class _Invitation(msgspec.Struct, frozen=True):
    invite_state: _Events = _Events()


class _RoomNews(msgspec.Struct, frozen=True):
    join: dict[str, JoinedRoom] = {}
    invite: dict[str, _Invitation] = {}


class SyncResponse(msgspec.Struct, frozen=True):
    """The news since the last time; `next_batch` is the position for the next request."""

    next_batch: str
    rooms: _RoomNews = _RoomNews()


class Invitation(msgspec.Struct, frozen=True):
    """An invitation of the bot into a room."""

    room_id: str
    room_name: str
    inviter: str


class RoomMembers:
    """The people of a room, by the profiles that the homeserver sends with their events."""

    def __init__(self, own: MatrixIdentity, names: Mapping[str, str]) -> None:
        self._own = own
        self._names = names

    def user(self, user_id: str) -> User:
        """Return a user as seen by flows.

        `name` comes from the id, because people choose their display names: two may be the same.
        Users of other servers have their whole id as a name.
        """
        local, _, server = user_id.removeprefix("@").partition(":")
        name = local if server == self._own.server else user_id
        shown = (
            _INVISIBLE.sub(" ", self._names.get(user_id, "")).strip()[:_MAX_NAME_LENGTH] or local
        )
        first, _, last = shown.partition(" ")
        return User(id=user_id, name=name, first_name=first, last_name=last.strip())


def read_events(given: Iterable[Any]) -> Iterator[RoomEvent]:
    """Read events; invalid ones are left out."""
    for each in given:
        try:
            yield msgspec.convert(each, RoomEvent)
        except msgspec.ValidationError:
            continue


def display_names(events: Iterable[RoomEvent]) -> dict[str, str]:
    """Return the display names of members of a room."""
    members = (event for event in events if event.type == "m.room.member" and event.state_key)
    return {event.state_key or "": _text(event.content.get("displayname")) for event in members}


def read_invitation(room_id: str, given: _Invitation, own: MatrixIdentity) -> Invitation:
    """Read an invitation; one without a sender has an empty user id."""
    name = inviter = ""
    for event in read_events(given.invite_state.events):
        if event.type == "m.room.member" and event.state_key == own.user_id:
            inviter = event.sender
        elif event.type == "m.room.name":
            name = _text(event.content.get("name"))[:_MAX_NAME_LENGTH]
    return Invitation(room_id, name, inviter)


def read_message(event: RoomEvent, room_id: str, people: RoomMembers) -> ReceivedMessage | None:
    """Read a message; None for anything else, such as an edit."""
    content, relation = event.content, _object(event.content.get("m.relates_to"))
    kind = "m.sticker" if event.type == "m.sticker" else _text(content.get("msgtype"))
    if kind not in _KINDS or relation.get("rel_type") == "m.replace":
        return None
    in_thread = relation.get("rel_type") == "m.thread"
    reply_to = _text(_object(relation.get("m.in_reply_to")).get("event_id"))
    if in_thread and relation.get("is_falling_back"):
        reply_to = ""
    text = _text(content.get("body"))
    return ReceivedMessage(
        channel_id=room_id,
        user=people.user(event.sender),
        message=_QUOTED.sub("", text, count=1) if reply_to and text.startswith("> ") else text,
        timestamp=event.event_id,
        thread_timestamp=(_text(relation.get("event_id")) if in_thread else "") or event.event_id,
        message_type=kind,
        reply_to=reply_to,
        media=_media(content) if kind in _MEDIA else None,
    )


def read_reaction(event: RoomEvent) -> Reaction | None:
    """Read a reaction."""
    relation = _object(event.content.get("m.relates_to"))
    key, message_id = _text(relation.get("key")), _text(relation.get("event_id"))
    if relation.get("rel_type") != "m.annotation" or not key or not message_id:
        return None
    return Reaction(key[:_MAX_NAME_LENGTH], message_id)


def without_address(event: RoomEvent, text: str, own: MatrixIdentity) -> str | None:
    """Return a message to the bot without the bot's name; None if the bot is not addressed."""
    names = [own.user_id, own.user_id.partition(":")[0], own.display_name]
    called = "|".join(re.escape(name) for name in names if name)
    local = re.escape(own.user_id.partition(":")[0].removeprefix("@"))
    mentioned = _object(event.content.get("m.mentions")).get("user_ids")
    # A bare name addresses the bot with a colon only, or else a bot named "deploy" would be
    # addressed by `deploy shop`.
    after = (
        r"[\s:,]+" if isinstance(mentioned, list) and own.user_id in mentioned else r"\s*[:,]\s*"
    )
    found = re.match(
        rf"\s*(?:{re.escape(own.user_id)}[\s:,]+|(?:{called}|{local}){after})", text, re.IGNORECASE
    )
    return None if found is None else text[found.end() :]


def _media(content: dict[str, Any]) -> Media:
    info, url = _object(content.get("info")), _text(content.get("url"))
    size = info.get("size")
    return Media(
        url=url[:_MAX_NAME_LENGTH] if url.startswith("mxc://") else "",
        name=(_text(content.get("filename")) or _text(content.get("body")))[:_MAX_NAME_LENGTH],
        mime_type=_text(info.get("mimetype"))[:_MAX_NAME_LENGTH],
        size=size if type(size) is int and size >= 0 else None,
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
