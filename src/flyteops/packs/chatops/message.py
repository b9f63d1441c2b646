"""The messages between flows and chats, field by field as in the original Slack pack."""

from typing import Any

import msgspec


class User(msgspec.Struct, frozen=True, rename="camel"):
    """A chat user as seen by flows."""

    id: str
    name: str
    email: str = ""
    title: str = ""
    first_name: str = ""
    last_name: str = ""


class Channel(msgspec.Struct, frozen=True):
    """A channel for messages; `name` is without the `#`."""

    id: str
    name: str
    topic: str = ""


# ------------------------------------------------------------------------------- inputs of commands


class SendMessage(msgspec.Struct, rename="camel"):
    """The input of the command; a field that is null counts as absent.

    With `markup`, mentions of groups in the message notify them, where the chat has such mentions;
    else they are text.
    """

    message: str | None = ""
    channel_id: str | None = ""
    thread_timestamp: str | None = ""
    markup: bool | None = False


class SendRichMessage(msgspec.Struct):
    """The input of the command, with the fields of Slack's `chat.postMessage`."""

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
        """Return the input as `SendRichMessageFailed` shows it.

        Most absent fields have empty values.
        """
        empty = msgspec.structs.asdict(SendRichMessage())
        echoed = {
            key: empty[key] if value is None else value
            for key, value in msgspec.structs.asdict(self).items()
        }
        for name in ("mrkdwn", "blocks", "markup"):
            if not echoed[name]:
                del echoed[name]
        return echoed


class UpdateText(msgspec.Struct, rename="camel"):
    """The input of the command where messages are text: the new text of an earlier message."""

    message: str | None = ""
    channel_id: str | None = ""
    timestamp: str | None = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be left of the message."""
        return not self.message


class UpdateMessage(UpdateText, rename="camel"):
    """The input of the command where messages have more than text.

    Absent attachments and blocks are removed.
    """

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


# ------------------------------------------------------------------------------- payloads of events


class MessageSent(msgspec.Struct, rename="camel"):
    """A message was posted; `timestamp` is its id in the channel."""

    message: str
    thread_timestamp: str
    channel_id: str
    timestamp: str


class SendMessageFailed(msgspec.Struct, rename="camel"):
    """A message could not be posted."""

    message: str
    thread_timestamp: str
    channel_id: str
    error: str


class RichMessageSent(msgspec.Struct, rename="camel"):
    """A rich message was posted.

    `thread_timestamp` is its id in the channel, so that answers can go into its thread.
    """

    channel_id: str
    thread_timestamp: str


class SendRichMessageFailed(msgspec.Struct, rename="camel"):
    """A rich message could not be posted."""

    input_message: dict[str, Any]
    error: str


class MessageUpdated(msgspec.Struct, rename="camel"):
    """A message was updated."""

    message: str
    channel_id: str
    timestamp: str


class UpdateMessageFailed(msgspec.Struct, rename="camel"):
    """A message could not be updated."""

    message: str
    channel_id: str
    timestamp: str
    error: str


class ChannelFound(msgspec.Struct, rename="camel"):
    """The channel with a name."""

    channel_name: str
    conversation: Channel


class ChannelNotFound(msgspec.Struct, rename="camel"):
    """The reason why a channel was not found."""

    channel_name: str
    reason: str


class Answer(msgspec.Struct, omit_defaults=True):
    """An answer in the thread of a message."""

    user: str = ""
    ts: str = ""


class ReceivedMessage(msgspec.Struct, frozen=True, rename="camel"):
    """A message was received; without a thread `thread_timestamp` is the message's own.

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
    """A user edited a message; `timestamp` is that of the message."""

    channel_id: str
    user: User
    message: str
    previous_message: str
    timestamp: str
    thread_timestamp: str


class MessageDeleted(msgspec.Struct, frozen=True, rename="camel"):
    """A message was deleted; `user` is its author, and `message` its text."""

    channel_id: str
    user: User
    message: str
    timestamp: str
    thread_timestamp: str


class ReactedItem(msgspec.Struct, frozen=True):
    """The message that a reaction is for."""

    type: str
    timestamp: str
    channel: str


class ReactionAdded(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A user reacted to a message."""

    type: str = "reaction_added"
    user: User
    item_user: User
    item: ReactedItem
    reaction: str
    event_timestamp: str


class ButtonPressed(msgspec.Struct, frozen=True, rename="camel"):
    """A user pressed a button of a message, or chose from one of its menus.

    The timestamps are those of the message.
    """

    channel_id: str
    user: User
    action_id: str
    block_id: str
    value: str
    timestamp: str
    thread_timestamp: str


class CommandReceived(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A user gave a declared command with permission.

    `approved_by` is the user who confirmed it, where needed.
    """

    command: str
    arguments: dict[str, str]
    text: str
    channel_id: str
    user: User
    timestamp: str
    thread_timestamp: str
    approved_by: User | None = None


class CommandRefused(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A command was not carried out: its `reason` is person, channel, refused or expired.

    `refused_by` is the user who refused it.
    """

    command: str
    arguments: dict[str, str]
    text: str
    channel_id: str
    user: User
    timestamp: str
    thread_timestamp: str
    reason: str
    refused_by: User | None = None
