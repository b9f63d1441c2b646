"""The commands and events of the chat: those of the Slack pack, so that flows can move over."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from flyteops.errors import FlyteError, NotFoundError
from flyteops.packs.chat.console import Console
from flyteops.packs.chat.room import ButtonPress, Message, Reaction, Room, Spoken, default_user_id
from flyteops.packs.chatops.command import declare_commands
from flyteops.packs.chatops.dispatcher import ChatMessage
from flyteops.packs.chatops.message import (
    ButtonPressed,
    Channel,
    ReactedItem,
    ReactionAdded,
    ReceivedMessage,
    RichMessageSent,
    SendRichMessage,
    UpdateMessage,
)
from flyteops.packs.chatops.permission import Person
from flyteops.packs.chatops.service import ChatOps
from flyteops.sdk import EventType, Pack, Reader


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack for pipes and simple terminals.

    `FLYTE_CHAT_CHANNELS` lists the channels, `general` if not given.
    """
    reader = Reader(environ)
    channels = reader.read("FLYTE_CHAT_CHANNELS", _channels, ["general"])
    reader.finish()
    room = Room(channels=channels)
    pack = pack_for(room)
    console = Console(room)
    pack.task(console.listen)
    pack.task(console.show)
    return pack


def pack_for(room: Room) -> Pack:
    """Make the pack that connects a room to flows."""
    pack = Pack("Chat", poll_interval=1.0)
    kinds = (ReceivedMessage, ReactionAdded, ButtonPressed)
    events: dict[type, EventType[Any]] = {kind: pack.event(kind.__name__, kind) for kind in kinds}
    chat = LocalChat(room, pack)
    declare_commands(pack, chat)
    ops = ChatOps(pack, chat)

    @pack.task
    async def deliver() -> None:
        if await pack.others():
            room.tell_apart(secrets.token_hex(2))
        while True:
            spoken, delivered = await room.next_spoken()
            spoken = room.current(spoken)
            payload = _payload(spoken)
            try:
                await pack.send(events[type(payload)](payload))
                if isinstance(spoken, Message):
                    await ops.hear(_said(spoken))
            except FlyteError as error:
                if not delivered.done():
                    delivered.set_exception(error)
            if not delivered.done():
                delivered.set_result(None)

    return pack


class LocalChat:
    """A room as seen by flows."""

    def __init__(self, room: Room, pack: Pack) -> None:
        self._room = room
        self._pack = pack

    async def _goes_elsewhere(self, channel_id: str) -> bool:
        """Give back a command for a channel of another chat; return whether that was done."""
        return self._room.is_elsewhere(channel_id) and await self._pack.give_back()

    async def post(self, text: str, channel_id: str, thread: str, *, markup: bool = False) -> str:
        """Post a message."""
        if await self._goes_elsewhere(channel_id):
            return ""
        return self._room.post(text, channel=self._channel(channel_id), thread=thread).timestamp

    async def post_rich(self, asked: SendRichMessage) -> RichMessageSent:
        """Post a rich message; raise `NotFoundError` with Slack's code if a part is missing."""
        channel = self._channel(asked.channel or "")
        if await self._goes_elsewhere(channel.id):
            return RichMessageSent(channel.id, "")
        if not asked.text and not asked.attachments and not asked.blocks:
            raise NotFoundError("no_text")
        message = self._room.post(
            asked.text or "",
            channel=channel,
            thread=asked.thread_ts or "",
            attachments=asked.attachments or (),
            blocks=asked.blocks or (),
            username=asked.username or "",
        )
        return RichMessageSent(channel.id, message.timestamp)

    def _channel(self, name_or_id: str) -> Channel:
        """Return a channel; one that the room does not know is shown under its name or id.

        So flows that name channels of Slack can be tried here without creating them first.
        """
        if not name_or_id:
            raise NotFoundError("channel_not_found")
        try:
            return self._room.channel(name_or_id)
        except NotFoundError:
            name = name_or_id.removeprefix("#")
            return Channel(name, name)

    async def update(self, asked: UpdateMessage) -> None:
        """Show the updated message once more.

        Raise `NotFoundError` with Slack's error code if there is none.
        """
        if await self._goes_elsewhere(asked.channel_id or ""):
            return
        try:
            shown = {"attachments": asked.attachments or (), "blocks": asked.blocks or ()}
            self._room.edit(asked.timestamp or "", asked.message or "", **shown)
        except NotFoundError:
            raise NotFoundError("message_not_found") from None

    async def find_channel(self, name: str) -> Channel:
        """Return the channel with a name."""
        channel = next((each for each in self._room.channels if each.name == name), None)
        if channel is None:
            raise NotFoundError("can't find channel with such name")
        return channel

    async def say(self, text: str, channel_id: str, thread: str) -> None:
        """Post a text."""
        await self.post(text, channel_id, thread)

    async def ask(self, text: str, channel_id: str, thread: str, question_id: str) -> str:
        """Ask for a decision; the text includes the possible answers."""
        return await self.post(text, channel_id, thread)

    async def replace(self, text: str, channel_id: str, timestamp: str) -> None:
        """Post a text in place of an earlier message."""
        self._room.edit(timestamp, text)

    async def channel_names(self, channel_id: str) -> frozenset[str]:
        """Return the name of a channel, and its id in a chat that is alone."""
        name = self._channel(channel_id).name
        return frozenset({name, default_user_id(name)})


def _said(message: Message) -> ChatMessage:
    return ChatMessage(
        text=message.text,
        person=Person.known_as(message.user, (message.user.id, message.user.name)),
        channel_id=message.channel.id,
        timestamp=message.timestamp,
        thread=message.thread or message.timestamp,
        key=f"message.{message.channel.id}.{message.timestamp}",
        is_console=True,
    )


def _payload(spoken: Spoken) -> msgspec.Struct:
    match spoken:
        case Message():
            return _received(spoken)
        case Reaction():
            return _reacted(spoken)
        case ButtonPress():
            return _pressed(spoken)


def _received(message: Message) -> ReceivedMessage:
    thread = message.thread or message.timestamp
    return ReceivedMessage(
        message.channel.id, message.user, message.text, message.timestamp, thread
    )


def _reacted(reaction: Reaction) -> ReactionAdded:
    message = reaction.message
    return ReactionAdded(
        user=reaction.user,
        item_user=message.user,
        item=ReactedItem("message", message.timestamp, message.channel.id),
        reaction=reaction.name,
        event_timestamp=reaction.timestamp,
    )


def _pressed(press: ButtonPress) -> ButtonPressed:
    button, message = press.button, press.message
    return ButtonPressed(
        channel_id=message.channel.id,
        user=press.user,
        action_id=button.action_id,
        block_id=button.block_id,
        value=button.value,
        timestamp=message.timestamp,
        thread_timestamp=message.thread or message.timestamp,
    )


def _channels(text: str) -> list[str]:
    names = [name.strip().removeprefix("#") for name in text.split(",")]
    if not all(names):
        message = f"{text!r} is not a list of channel names such as general,deploys"
        raise ValueError(message)
    return names
