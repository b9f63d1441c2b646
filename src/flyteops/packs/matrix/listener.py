"""The listener: sends the events of rooms to Flyte, each once and in the order of its room.

It includes those that happened while the pack was away.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from typing import Any

import msgspec

from flyteops.errors import ConflictError, FlyteError, InputError, NotFoundError, UnavailableError
from flyteops.packs.chatops.dispatcher import ChatMessage
from flyteops.packs.chatops.message import ReactedItem, ReactionAdded, User
from flyteops.packs.chatops.service import ChatOps
from flyteops.packs.matrix.api import MatrixApi, MatrixIdentity
from flyteops.packs.matrix.content import MessageText, message
from flyteops.packs.matrix.messenger import MatrixMessenger, person
from flyteops.packs.matrix.room import ENCRYPTED, Rooms
from flyteops.packs.matrix.settings import MatrixSettings
from flyteops.packs.matrix.timeline import (
    Invitation,
    Joined,
    JoinedRoom,
    Reaction,
    ReceivedMessage,
    RoomEvent,
    RoomMembers,
    SyncResponse,
    display_names,
    read_events,
    read_invitation,
    read_message,
    read_reaction,
    without_address,
)
from flyteops.sdk import Event, EventType, Pack

LOGGER = logging.getLogger("flyte.matrix")

WAIT = 30.0
"""Seconds for which the homeserver holds its answer while nothing happens."""

PAGE = 100
MAX_MISSED = 1000
"""Maximum number of missed events of one room that are fetched."""

_REMEMBERED = 5000
_PLACE = "org.flyteops.sync"
_KINDS = [
    "m.room.message",
    "m.sticker",
    "m.reaction",
    "m.room.member",
    "m.room.encrypted",
    "m.room.encryption",
]
_MEMBERS = {"lazy_load_members": True, "include_redundant_members": True}
_STATE = {"types": ["m.room.member", "m.room.encryption"], **_MEMBERS}
_NOTHING: dict[str, list[str]] = {"types": []}


class Invited(msgspec.Struct, frozen=True, rename="camel"):
    """A user invited the bot into a room; `accepted` says whether it has joined."""

    channel_id: str
    channel_name: str
    user: User
    accepted: bool


class Listener:
    """Listens, and answers commands.

    Its position is kept by the homeserver, in the data of the bot's account.
    """

    def __init__(self, pack: Pack, api: MatrixApi, rooms: Rooms, settings: MatrixSettings) -> None:
        self._pack = pack
        self._api = api
        self._rooms = rooms
        self._settings = settings
        kinds = (ReceivedMessage, ReactionAdded, Joined, Invited)
        self._events: dict[type, EventType[Any]] = {
            kind: pack.event(kind.__name__, kind) for kind in kinds
        }
        self._voice = MatrixMessenger(api, rooms)
        self._ops = ChatOps(pack, self._voice)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._told_unread: set[str] = set()
        self.identity: MatrixIdentity | None = None

    async def listen(self) -> None:
        """Send events until cancelled; raise the error if the homeserver cannot be used."""
        async with self._api.session():
            self.identity = await self._api.identify()
            # The bot's rooms and invitations are read again at each start; messages are not
            # reported from here.
            present = await self._sync(0, _news_filter(1, secrets.token_hex(8)))
            for room_id, room in present.rooms.join.items():
                self._rooms.learn(room_id, room)
            await self._take_invitations(present)
            since = await self._kept() or present.next_batch
            LOGGER.info("connected as %s", self.identity.user_id)
            while True:
                news = await self._news(since, present.next_batch)
                if news.rooms.join or news.rooms.invite:
                    await self._take(news, since)
                    await self._keep(news.next_batch)
                since = news.next_batch

    async def _news(self, since: str, present: str) -> SyncResponse:
        """Return the news since the last time.

        If the homeserver no longer knows that time, begin with now.
        """
        try:
            return await self._sync(WAIT, _news_filter(PAGE), since=since)
        except (InputError, NotFoundError) as error:
            if since == present:
                raise
            LOGGER.warning(
                "the homeserver cannot go on where the pack stopped, so messages since then are"
                " skipped: %s",
                error,
            )
            return SyncResponse(present)

    async def _sync(self, wait: float, choice: str, **place: str) -> SyncResponse:
        answer = await self._api.sync(wait, filter=choice, **place)
        try:
            return msgspec.convert(answer, SyncResponse)
        except msgspec.ValidationError as error:
            message = f"unexpected response of the homeserver: {error}"
            raise UnavailableError(message) from error

    async def _kept(self) -> str:
        try:
            return str((await self._api.get(*self._place())).get("since") or "")
        except NotFoundError:
            return ""

    async def _keep(self, since: str) -> None:
        await self._api.put(*self._place(), since=since)

    def _place(self) -> tuple[str, ...]:
        return ("user", self._own.user_id, "account_data", _PLACE)

    @property
    def _own(self) -> MatrixIdentity:
        return self.identity or MatrixIdentity("")

    # ----------------------------------------------------------------------------------------- news

    async def _take(self, news: SyncResponse, since: str) -> None:
        """Send the events of news; rooms do not wait for each other."""
        for room_id, room in news.rooms.join.items():
            self._rooms.learn(room_id, room)
        await self._take_invitations(news)
        taking = (
            self._take_room(room_id, room, since) for room_id, room in news.rooms.join.items()
        )
        for outcome in await asyncio.gather(*taking, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _take_room(self, room_id: str, room: JoinedRoom, since: str) -> None:
        events, names = (
            list(read_events(room.timeline.events)),
            display_names(read_events(room.state.events)),
        )
        entry = self._entry(events)
        if entry is None and room.timeline.limited:
            missed, missed_names = await self._missed(room_id, room.timeline.prev_batch, since)
            events, names = missed + events, missed_names | names
            entry = self._entry(events)
        people = RoomMembers(self._own, names | display_names(events))
        for event in events[entry or 0 :]:
            if event.event_id not in self._seen:
                try:
                    await self._take_event(event, room_id, people)
                except FlyteError as error:
                    LOGGER.error("%s in %s is dropped: %s", event.event_id, room_id, error)
                # One event that this pack cannot read must not keep back those behind it.
                except Exception:
                    LOGGER.exception(
                        "%s in %s cannot be read and is dropped", event.event_id, room_id
                    )
                self._remember(event)

    def _remember(self, event: RoomEvent) -> None:
        """Remember a processed event.

        The homeserver repeats it if another event of the same news failed.
        """
        self._seen[event.event_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _entry(self, events: list[RoomEvent]) -> int | None:
        """Return the place where the bot entered the room: earlier messages are not for it."""
        places = [
            place
            for place, event in enumerate(events)
            if event.comes and event.state_key == self._own.user_id
        ]
        return places[-1] if places else None

    async def _missed(
        self, room_id: str, before: str, since: str
    ) -> tuple[list[RoomEvent], dict[str, str]]:
        """Return the events between two times, oldest first, and the members' display names."""
        found: list[RoomEvent] = []
        names: dict[str, str] = {}
        choice = msgspec.json.encode(_timeline(PAGE)).decode()
        while before and len(found) < MAX_MISSED:
            page = await self._api.get(
                "rooms",
                room_id,
                "messages",
                **{"dir": "b", "from": before, "to": since, "limit": str(PAGE), "filter": choice},
            )
            events = list(read_events(page.get("chunk") or []))
            names = display_names(read_events(page.get("state") or [])) | names
            found += events
            entry = self._entry(events)
            before = "" if entry is not None or not events else str(page.get("end") or "")
        if before:
            LOGGER.warning(
                "more than %d events were missed in %s; the older ones are left out",
                MAX_MISSED,
                room_id,
            )
        return found[::-1], names

    async def _take_event(self, event: RoomEvent, room_id: str, people: RoomMembers) -> None:
        is_late = event.age > self._settings.catch_up
        if event.comes and not is_late:
            await self._tell(
                Joined(room_id, people.user(event.state_key or ""), event.event_id), event
            )
        if event.type == "m.room.encryption" or (
            event.comes and event.state_key == self._own.user_id
        ):
            await self._explain_encryption(event, room_id)
        if event.sender == self._own.user_id or is_late:
            return
        match event.type:
            case "m.room.message" | "m.sticker":
                await self._take_message(event, room_id, people)
            case "m.reaction":
                await self._take_reaction(event, room_id, people)
            case "m.room.encrypted" if room_id not in self._told_unread:
                self._told_unread.add(room_id)
                LOGGER.warning("messages in %s are not read: %s", room_id, ENCRYPTED)

    async def _take_message(self, event: RoomEvent, room_id: str, people: RoomMembers) -> None:
        received = read_message(event, room_id, people)
        if received is None or (received.message_type == "m.notice" and not self._settings.notices):
            return
        await self._tell(received, event)
        if received.message_type == "m.text":
            await self._ops.hear(self._said(received, event))

    def _said(self, received: ReceivedMessage, event: RoomEvent) -> ChatMessage:
        to_us = without_address(event, received.message, self._own)
        return ChatMessage(
            text=received.message if to_us is None else to_us,
            person=person(received.user),
            channel_id=received.channel_id,
            timestamp=received.timestamp,
            thread=received.thread_timestamp,
            key=event.key,
            is_addressed=to_us is not None or self._rooms.is_direct(received.channel_id),
        )

    async def _take_reaction(self, event: RoomEvent, room_id: str, people: RoomMembers) -> None:
        reaction = read_reaction(event)
        if reaction is None:
            return
        decision = self._voice.decision(reaction)
        if decision is not None:
            place = (room_id, reaction.message_id)
            await self._ops.answer(
                decision[0], person(people.user(event.sender)), place, is_yes=decision[1]
            )
            return
        author = await self._author(room_id, reaction)
        payload = ReactionAdded(
            user=people.user(event.sender),
            item_user=people.user(author) if author else User("", ""),
            item=ReactedItem("message", reaction.message_id, room_id),
            reaction=reaction.key,
            event_timestamp=event.event_id,
        )
        await self._tell(payload, event)

    async def _author(self, room_id: str, reaction: Reaction) -> str:
        try:
            return str(
                (await self._api.get("rooms", room_id, "event", reaction.message_id)).get("sender")
                or ""
            )
        except FlyteError:
            return ""

    async def _explain_encryption(self, event: RoomEvent, room_id: str) -> None:
        """Explain in an encrypted room that the bot cannot read it.

        It does so when the bot joins, or the room becomes encrypted.
        """
        if await self._rooms.is_encrypted(room_id):
            LOGGER.warning("the bot cannot work in %s: %s", room_id, ENCRYPTED)
            notice = message(MessageText(f"I cannot help here: {ENCRYPTED}.", is_notice=True))
            await self._api.send(room_id, "m.room.message", notice, f"encrypted.{event.event_id}")

    async def _tell(self, payload: msgspec.Struct, event: RoomEvent) -> None:
        await self._pack.send(self._event(payload), key=event.key)

    def _event(self, payload: msgspec.Struct) -> Event:
        return self._events[type(payload)](payload)

    # ---------------------------------------------------------------------------------- invitations

    async def _take_invitations(self, news: SyncResponse) -> None:
        for room_id, given in news.rooms.invite.items():
            invitation = read_invitation(room_id, given, self._own)
            accepted = self._settings.invites.allow(invitation.inviter)
            try:
                await (self._accept(invitation) if accepted else self._decline(invitation))
            except FlyteError as error:
                LOGGER.warning(
                    "the invitation of %s to %s failed: %s", invitation.inviter, room_id, error
                )
                accepted = False
            user = RoomMembers(self._own, {}).user(invitation.inviter)
            try:
                await self._pack.send(
                    self._event(Invited(room_id, invitation.room_name, user, accepted))
                )
            except (InputError, ConflictError) as error:
                LOGGER.error("Flyte rejected the invitation to %s: %s", room_id, error)

    async def _accept(self, invitation: Invitation) -> None:
        LOGGER.info("%s invites the bot to %s", invitation.inviter, invitation.room_id)
        await self._api.post("rooms", invitation.room_id, "join")

    async def _decline(self, invitation: Invitation) -> None:
        LOGGER.warning(
            "%s may not invite the bot to %s: FLYTE_MATRIX_INVITES does not name that person or"
            " server",
            invitation.inviter,
            invitation.room_id,
        )
        await self._api.post("rooms", invitation.room_id, "leave")


def _timeline(limit: int) -> dict[str, Any]:
    return {"types": _KINDS, "limit": limit, **_MEMBERS}


def _news_filter(limit: int, once: str = "") -> str:
    """Return the filter for syncs: only the events that are used.

    Synapse repeats the answer to the same request for two minutes; `once` makes the request another
    one.
    """
    presence = {**_NOTHING, "not_senders": [f"@{once}:flyte.invalid"]} if once else _NOTHING
    room = {
        "timeline": _timeline(limit),
        "state": _STATE,
        "ephemeral": _NOTHING,
        "account_data": _NOTHING,
    }
    return msgspec.json.encode(
        {"presence": presence, "account_data": _NOTHING, "room": room}
    ).decode()
