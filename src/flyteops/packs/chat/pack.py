"""The commands and events of the chat: those of the Slack pack, so that flows can move between the two."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from flyteops.errors import FlyteError, NotFoundError
from flyteops.packs.chat.console import Console
from flyteops.packs.chat.room import Channel, Message, Reaction, Room
from flyteops.sdk import Event, Pack, Reader, fatal

T = TypeVar("T", bound=msgspec.Struct)


class SendMessage(msgspec.Struct, rename="camel"):
    """The input of the command; a field that is null counts as absent."""

    message: str | None = ""
    channel_id: str | None = ""
    thread_timestamp: str | None = ""


class SendRichMessage(msgspec.Struct):
    """The input of the command, field by field what `chat.postMessage` of Slack takes."""

    channel: str | None = ""
    text: str | None = ""
    username: str | None = ""
    icon_url: str | None = ""
    icon_emoji: str | None = ""
    parse: str | None = ""
    thread_ts: str | None = ""
    reply_broadcast: bool | None = False
    unfurl_links: bool | None = False
    unfurl_media: bool | None = False
    mrkdwn: bool | None = False
    escape_text: bool | None = False
    link_names: int | None = 0
    attachments: list[dict[str, Any]] | None = None


class GetChannelInfo(msgspec.Struct, rename="camel"):
    """The input of the command."""

    channel_name: str | None = ""


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack for pipes and simple terminals; `FLYTE_CHAT_CHANNELS` lists the channels, `general` if not given."""
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
    received, reacted = pack.event("ReceivedMessage"), pack.event("ReactionAdded")
    _declare_send_message(pack, room)
    _declare_send_rich_message(pack, room)
    _declare_get_channel_info(pack, room)

    @pack.task
    async def deliver() -> None:
        while True:
            spoken, delivered = await room.next_spoken()
            event = received(_received(spoken)) if isinstance(spoken, Message) else reacted(_reacted(spoken))
            try:
                await pack.send(event)
            except FlyteError as error:
                if not delivered.done():
                    delivered.set_exception(error)
            if not delivered.done():
                delivered.set_result(None)

    return pack


def _declare_send_message(pack: Pack, room: Room) -> None:
    sent, not_sent = pack.event("MessageSent"), pack.event("SendMessageFailed")

    @pack.command("SendMessage", events=[sent, not_sent])
    async def send_message(raw: Any) -> Event:
        try:
            asked = _convert(raw, SendMessage)
        except msgspec.ValidationError as error:
            return fatal(f"input is not valid: {error}")
        text, channel_id = asked.message or "", asked.channel_id or ""
        missing = [
            *(["missing message field"] if not text else []),
            *(["missing channel id field"] if not channel_id else []),
        ]
        payload = {"message": text, "threadTimestamp": "", "channelId": channel_id}
        if missing:
            return not_sent({**payload, "error": ", ".join(missing)})
        room.post(text, channel=_channel_or_stranger(room, channel_id), thread=asked.thread_timestamp or "")
        return sent(payload)


def _declare_send_rich_message(pack: Pack, room: Room) -> None:
    sent, not_sent = pack.event("RichMessageSent"), pack.event("SendRichMessageFailed")

    @pack.command("SendRichMessage", events=[sent, not_sent])
    async def send_rich_message(raw: Any) -> Event:
        try:
            asked = _convert(raw, SendRichMessage)
        except msgspec.ValidationError as error:
            return fatal(f"invalid input: {error}")
        try:
            message = _post_rich(room, asked)
        except NotFoundError as error:
            return not_sent({"inputMessage": _input_message(asked), "error": f"cannot send rich message={asked.text!r}: {error}"})
        return sent({"channelId": message.channel.id, "threadTimestamp": message.timestamp})


def _declare_get_channel_info(pack: Pack, room: Room) -> None:
    found, not_found = pack.event("GetChannelInfoSuccess"), pack.event("GetChannelInfoFail")

    @pack.command("GetChannelInfo", events=[found, not_found])
    async def get_channel_info(raw: Any) -> Event:
        try:
            name = _convert(raw, GetChannelInfo).channel_name or ""
        except msgspec.ValidationError as error:
            return not_found({"channelName": "", "reason": str(error)})
        channel = next((each for each in room.channels if each.name == name), None)
        if channel is None:
            return not_found({"channelName": name, "reason": "can't find channel with such name"})
        return found({"channelName": name, "conversation": channel})


def _post_rich(room: Room, asked: SendRichMessage) -> Message:
    """Post it; raise `NotFoundError` with Slack's word for what is missing."""
    try:
        channel = room.channel(asked.channel or "")
    except NotFoundError:
        raise NotFoundError("channel_not_found") from None
    if not asked.text and not asked.attachments:
        raise NotFoundError("no_text")
    return room.post(
        asked.text or "",
        channel=channel,
        thread=asked.thread_ts or "",
        attachments=asked.attachments or (),
        username=asked.username or "",
    )


def _input_message(asked: SendRichMessage) -> dict[str, Any]:
    """Return the input as the Slack pack echoes it: empty values for what is absent, but no `mrkdwn` unless true."""
    empty = msgspec.structs.asdict(SendRichMessage())
    given = msgspec.structs.asdict(asked)
    echoed = {key: empty[key] if value is None else value for key, value in given.items()}
    if not echoed["mrkdwn"]:
        del echoed["mrkdwn"]
    return echoed


def _channel_or_stranger(room: Room, channel_id: str) -> Channel:
    """Return the channel; one that is not known still shows its messages, for Slack reports no error here either."""
    try:
        return room.channel(channel_id)
    except NotFoundError:
        return Channel(channel_id, channel_id)


def _convert(raw: Any, kind: type[T]) -> T:
    """Read an input as the Slack pack does: whatever the case of the keys, and null is an empty object."""
    if not isinstance(raw, dict):
        return msgspec.convert({} if raw is None else raw, kind)
    names = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    return msgspec.convert({names.get(key.lower(), key): value for key, value in raw.items()}, kind)


def _received(message: Message) -> dict[str, Any]:
    return {
        "channelId": message.channel.id,
        "user": message.user,
        "message": message.text,
        "timestamp": message.timestamp,
        "threadTimestamp": message.thread or message.timestamp,
        "replyCount": 0,
        "replies": None,
    }


def _reacted(reaction: Reaction) -> dict[str, Any]:
    message = reaction.message
    return {
        "type": "reaction_added",
        "user": reaction.user,
        "itemUser": message.user,
        "item": {"type": "message", "timestamp": message.timestamp, "channel": message.channel.id},
        "reaction": reaction.name,
        "eventTimestamp": reaction.timestamp,
    }


def _channels(text: str) -> list[str]:
    names = [name.strip().removeprefix("#") for name in text.split(",")]
    if not all(names):
        message = f"{text!r} is not a list of channel names such as general,deploys"
        raise ValueError(message)
    return names
