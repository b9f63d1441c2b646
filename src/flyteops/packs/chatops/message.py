"""What flows and chats say to each other, field by field as the original Slack pack does."""

from typing import Any

import msgspec


class User(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody who talks, as flows see him."""

    id: str
    name: str
    email: str = ""
    title: str = ""
    first_name: str = ""
    last_name: str = ""


class Channel(msgspec.Struct, frozen=True):
    """A place for messages; `name` is without the `#`."""

    id: str
    name: str
    topic: str = ""


# -------------------------------------------------------------------------------------------------- inputs of commands


class SendMessage(msgspec.Struct, rename="camel"):
    """The input of the command; a field that is null counts as absent.

    With `markup`, mentions of many in the message alarm them, where the chat has such mentions; else they are text.
    """

    message: str | None = ""
    channel_id: str | None = ""
    thread_timestamp: str | None = ""
    markup: bool | None = False


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
    markup: bool | None = False
    attachments: list[dict[str, Any]] | None = None
    blocks: list[dict[str, Any]] | None = None

    def echo(self) -> dict[str, Any]:
        """Return the input as `SendRichMessageFailed` shows it, with empty values for most of what is absent."""
        empty = msgspec.structs.asdict(SendRichMessage())
        echoed = {key: empty[key] if value is None else value for key, value in msgspec.structs.asdict(self).items()}
        for name in ("mrkdwn", "blocks", "markup"):
            if not echoed[name]:
                del echoed[name]
        return echoed


class UpdateText(msgspec.Struct, rename="camel"):
    """The input of the command where messages are text: what a message that was sent before becomes."""

    message: str | None = ""
    channel_id: str | None = ""
    timestamp: str | None = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be left of the message."""
        return not self.message


class UpdateMessage(UpdateText, rename="camel"):
    """The input of the command where messages have more than text; absent attachments and blocks go away."""

    markup: bool | None = False
    attachments: list[dict[str, Any]] | None = None
    blocks: list[dict[str, Any]] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be left of the message."""
        return not (self.message or self.blocks or self.attachments)


class GetChannelInfo(msgspec.Struct, rename="camel"):
    """The input of the command."""

    channel_name: str | None = ""


# -------------------------------------------------------------------------------------------------- payloads of events


class MessageSent(msgspec.Struct, rename="camel"):
    """A message is in its channel; `timestamp` names it there."""

    message: str
    thread_timestamp: str
    channel_id: str
    timestamp: str


class SendMessageFailed(msgspec.Struct, rename="camel"):
    """A message is not in its channel."""

    message: str
    thread_timestamp: str
    channel_id: str
    error: str


class RichMessageSent(msgspec.Struct, rename="camel"):
    """A rich message is in its channel; `thread_timestamp` names it there, so that answers can go into its thread."""

    channel_id: str
    thread_timestamp: str


class SendRichMessageFailed(msgspec.Struct, rename="camel"):
    """A rich message is not in its channel."""

    input_message: dict[str, Any]
    error: str


class MessageUpdated(msgspec.Struct, rename="camel"):
    """A message has become another."""

    message: str
    channel_id: str
    timestamp: str


class UpdateMessageFailed(msgspec.Struct, rename="camel"):
    """A message stays as it was."""

    message: str
    channel_id: str
    timestamp: str
    error: str


class ChannelFound(msgspec.Struct, rename="camel"):
    """The channel of a name."""

    channel_name: str
    conversation: Channel


class ChannelNotFound(msgspec.Struct, rename="camel"):
    """Why there is no channel of a name."""

    channel_name: str
    reason: str


class Answer(msgspec.Struct, omit_defaults=True):
    """An answer in the thread of a message."""

    user: str = ""
    ts: str = ""


class ReceivedMessage(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody said something; without a thread its timestamp is the message's own.

    `attachments`, `blocks` and `files` are as the chat has them, where a message has any.
    """

    channel_id: str
    user: User
    message: str
    timestamp: str
    thread_timestamp: str
    reply_count: int = 0
    replies: list[Answer] | None = None
    attachments: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    blocks: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    files: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class MessageEdited(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody changed what he had said; `timestamp` is that of the message."""

    channel_id: str
    user: User
    message: str
    previous_message: str
    timestamp: str
    thread_timestamp: str


class MessageDeleted(msgspec.Struct, frozen=True, rename="camel"):
    """A message was deleted; `user` is who had said it, and `message` what it said."""

    channel_id: str
    user: User
    message: str
    timestamp: str
    thread_timestamp: str


class ReactedItem(msgspec.Struct, frozen=True):
    """What somebody reacted to."""

    type: str
    timestamp: str
    channel: str


class ReactionAdded(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Somebody reacted to a message."""

    type: str = "reaction_added"
    user: User
    item_user: User
    item: ReactedItem
    reaction: str
    event_timestamp: str


class ButtonPressed(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody pressed a button of a message, or chose from one of its menus; the timestamps are those of the message."""

    channel_id: str
    user: User
    action_id: str
    block_id: str
    value: str
    timestamp: str
    thread_timestamp: str


class CommandReceived(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Somebody gave a command that was declared, and may; `approved_by` is who said yes, where that was asked for."""

    command: str
    arguments: dict[str, str]
    text: str
    channel_id: str
    user: User
    timestamp: str
    thread_timestamp: str
    approved_by: User | None = None


class CommandRefused(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A command came to nothing: its `reason` is person, channel, refused or expired; `refused_by` is who said no."""

    command: str
    arguments: dict[str, str]
    text: str
    channel_id: str
    user: User
    timestamp: str
    thread_timestamp: str
    reason: str
    refused_by: User | None = None
