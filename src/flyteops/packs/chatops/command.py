"""The commands of every chat, on top of the chat's own functions."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from flyteops.errors import FlyteError
from flyteops.packs.chatops.message import (
    Channel,
    ChannelFound,
    ChannelNotFound,
    GetChannelInfo,
    MessageSent,
    MessageUpdated,
    RichMessageSent,
    SendMessage,
    SendMessageFailed,
    SendRichMessage,
    SendRichMessageFailed,
    UpdateMessage,
    UpdateMessageFailed,
    UpdateText,
)
from flyteops.packs.legacy_input import read_input
from flyteops.sdk import Event, Pack, fatal

S = TypeVar("S", bound=SendMessage)
U = TypeVar("U", bound=UpdateText)


class Chat(Protocol):
    """The functions of a chat for flows.

    A refusal raises a `FlyteError` with the reason as its message.
    """

    async def post(self, text: str, channel_id: str, thread: str, *, markup: bool = False) -> str:
        """Post a message and return its timestamp; with `markup` it may notify groups."""

    async def post_rich(self, asked: SendRichMessage) -> RichMessageSent:
        """Post a message with all fields that it may have."""

    async def update(self, asked: UpdateMessage) -> None:
        """Change a message that was posted before."""

    async def find_channel(self, name: str) -> Channel:
        """Return the channel with a name; raise `NotFoundError` if there is none."""


def declare_commands(pack: Pack, chat: Chat) -> None:
    """Give a pack the commands of a chat."""

    async def post(asked: SendMessage) -> str:
        place = (asked.channel_id or "", asked.thread_timestamp or "")
        return await chat.post(asked.message or "", *place, markup=bool(asked.markup))

    declare_send_message(pack, post, SendMessage)
    _declare_send_rich_message(pack, chat)
    declare_update_message(pack, chat.update, UpdateMessage)
    declare_get_channel_info(pack, chat.find_channel, ChannelFound)


def declare_send_message(pack: Pack, post: Callable[[S], Awaitable[str]], takes: type[S]) -> None:
    """Give a pack the command `SendMessage`; `takes` may have additional fields of a chat."""
    sent, not_sent = (
        pack.event("MessageSent", MessageSent),
        pack.event("SendMessageFailed", SendMessageFailed, failure=True),
    )

    @pack.command("SendMessage", events=[sent, not_sent], takes=takes)
    # Any input; the original's rules apply to it.
    async def send_message(raw: Any) -> Event:  # noqa: ANN401
        try:
            asked = read_input(raw, takes)
        except msgspec.ValidationError as error:
            return fatal(f"input is not valid: {error}")
        text, channel_id, thread = (
            asked.message or "",
            asked.channel_id or "",
            asked.thread_timestamp or "",
        )
        if missing := _missing({"message": text, "channel id": channel_id}):
            return not_sent(SendMessageFailed(text, thread, channel_id, missing))
        try:
            return sent(MessageSent(text, thread, channel_id, await post(asked)))
        except FlyteError as error:
            return not_sent(SendMessageFailed(text, thread, channel_id, str(error)))


def _declare_send_rich_message(pack: Pack, chat: Chat) -> None:
    sent, not_sent = (
        pack.event("RichMessageSent", RichMessageSent),
        pack.event("SendRichMessageFailed", SendRichMessageFailed, failure=True),
    )

    @pack.command("SendRichMessage", events=[sent, not_sent], takes=SendRichMessage)
    # Any input; the original's rules apply to it.
    async def send_rich_message(raw: Any) -> Event:  # noqa: ANN401
        try:
            asked = read_input(raw, SendRichMessage)
        except msgspec.ValidationError as error:
            return fatal(f"invalid input: {error}")
        try:
            return sent(await chat.post_rich(asked))
        except FlyteError as error:
            return not_sent(
                SendRichMessageFailed(
                    asked.echo(), f"cannot send rich message={asked.text!r}: {error}"
                )
            )


def declare_update_message(
    pack: Pack, update: Callable[[U], Awaitable[None]], takes: type[U]
) -> None:
    """Give a pack the command `UpdateMessage`; `takes` may have additional fields of a chat."""
    updated, not_updated = (
        pack.event("MessageUpdated", MessageUpdated),
        pack.event("UpdateMessageFailed", UpdateMessageFailed, failure=True),
    )

    @pack.command("UpdateMessage", events=[updated, not_updated], takes=takes)
    # Any input; the original's rules apply to it.
    async def update_message(raw: Any) -> Event:  # noqa: ANN401
        try:
            asked = read_input(raw, takes)
        except msgspec.ValidationError as error:
            return fatal(f"input is not valid: {error}")
        place = (asked.message or "", asked.channel_id or "", asked.timestamp or "")
        if missing := _missing(
            {
                "message": not asked.is_empty,
                "channel id": asked.channel_id,
                "timestamp": asked.timestamp,
            }
        ):
            return not_updated(UpdateMessageFailed(*place, missing))
        try:
            await update(asked)
        except FlyteError as error:
            return not_updated(UpdateMessageFailed(*place, str(error)))
        return updated(MessageUpdated(*place))


def declare_get_channel_info(
    pack: Pack, find: Callable[[str], Awaitable[Channel]], tells: type[ChannelFound]
) -> None:
    """Give a pack the command `GetChannelInfo`.

    `tells` may have more fields than every chat has.
    """
    found, not_found = (
        pack.event("GetChannelInfoSuccess", tells),
        pack.event("GetChannelInfoFail", ChannelNotFound, failure=True),
    )

    @pack.command("GetChannelInfo", events=[found, not_found], takes=GetChannelInfo)
    # Any input; the original's rules apply to it.
    async def get_channel_info(raw: Any) -> Event:  # noqa: ANN401
        try:
            name = read_input(raw, GetChannelInfo).channel_name or ""
        except msgspec.ValidationError as error:
            return not_found(ChannelNotFound("", str(error)))
        try:
            return found(tells(name, await find(name)))
        except FlyteError as error:
            return not_found(ChannelNotFound(name, str(error)))


def _missing(fields: dict[str, Any]) -> str:
    return ", ".join(f"missing {name} field" for name, value in fields.items() if not value)
