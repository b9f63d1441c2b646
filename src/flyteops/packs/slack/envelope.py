"""Slack's envelopes from a socket, parsed into events for flows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from flyteops.packs.chatops.message import (
    Answer,
    ButtonPressed,
    MessageDeleted,
    MessageEdited,
    ReactedItem,
    ReactionAdded,
    ReceivedMessage,
    User,
)
from flyteops.packs.slack.api import SlackIdentity
from flyteops.packs.slack.readable import objects, readable

T = TypeVar("T")

_NOBODY = User("", "")

NEWS = frozenset({"message_changed", "message_deleted", "message_replied"})
"""Subtypes of messages that are news about messages."""

_OF_BOT = "bot_message"

_TOMBSTONE = "tombstone"
"""The remains of a deleted message that has answers."""


class SlashCommand(msgspec.Struct, frozen=True, rename="camel"):
    """A user typed a command of the app, such as `/flyte deploy`.

    `text` is the text after `command`.
    """

    channel_id: str
    user: User
    command: str
    text: str


class PendingEvent(msgspec.Struct, frozen=True, eq=False):
    """Something that happened: its payload is made once its people are known.

    Equal keys mean the same occurrence.
    """

    key: str
    channel_id: str
    user_ids: tuple[str, ...]
    payload: Callable[[Sequence[User]], msgspec.Struct]


class _Profile(msgspec.Struct):
    name: str = ""


class _Message(msgspec.Struct):
    ts: str
    channel: str = ""
    username: str | None = None
    bot_profile: _Profile | None = None
    attachments: Any = None
    blocks: Any = None
    files: Any = None
    user: str | None = None
    bot_id: str | None = None
    text: str | None = None
    subtype: str | None = None
    hidden: bool = False
    thread_ts: str | None = None
    reply_count: int = 0
    replies: list[Answer] | None = None

    @property
    def bot(self) -> User | None:
        """The bot or webhook that posted it without a user; None if a user did.

        Old integrations have only a name, and no id.
        """
        if self.user or not (self.bot_id or self.subtype == _OF_BOT):
            return None
        name = self.username or (self.bot_profile.name if self.bot_profile else "")
        return User(self.bot_id or "", name)

    @property
    def is_of_program(self) -> bool:
        """Whether a program posted it, also one that has a user; its parts are then the message."""
        return self.bot is not None or bool(self.bot_id)


class _News(msgspec.Struct):
    channel: str
    ts: str
    message: dict[str, Any] = {}
    previous_message: dict[str, Any] = {}
    deleted_ts: str = ""
    event_ts: str = ""


class _Item(msgspec.Struct):
    type: str
    ts: str = ""
    channel: str = ""


class _Reaction(msgspec.Struct):
    user: str
    reaction: str
    item: _Item
    event_ts: str
    item_user: str | None = None


class _Named(msgspec.Struct):
    id: str = ""


class _Option(msgspec.Struct):
    value: str = ""


class _Action(msgspec.Struct):
    action_id: str = ""
    block_id: str = ""
    name: str = ""
    value: str | None = None
    selected_option: _Option | None = None
    selected_options: list[_Option] | None = None
    action_ts: str = ""

    @property
    def chosen(self) -> str:
        if self.value is not None:
            return self.value
        options = [self.selected_option] if self.selected_option else self.selected_options or []
        return ",".join(option.value for option in options)


class _Posted(msgspec.Struct):
    ts: str = ""
    thread_ts: str = ""


class _Container(msgspec.Struct):
    message_ts: str = ""
    thread_ts: str = ""
    channel_id: str = ""


class _Interaction(msgspec.Struct):
    type: str
    user: _Named
    actions: list[_Action] = []
    channel: _Named | None = None
    container: _Container | None = None
    message: _Posted | None = None
    original_message: _Posted | None = None
    message_ts: str = ""
    action_ts: str = ""
    callback_id: str = ""
    trigger_id: str = ""


class _Slash(msgspec.Struct):
    channel_id: str
    user_id: str
    command: str
    text: str = ""
    trigger_id: str = ""


def parse_events(
    kind: str, envelope_id: str, payload: dict[str, Any], own: SlackIdentity | None
) -> Iterator[PendingEvent]:
    """Read an envelope; most hold one occurrence, and many hold none for flows.

    Messages and actions of the app itself are left out, unless `own` is None. Raise
    `msgspec.ValidationError` if it differs from Slack's documentation.
    """
    match kind:
        case "events_api":
            yield from _of_event(payload.get("event") or {}, own)
        case "interactive" if payload.get("type") in ("block_actions", "interactive_message"):
            yield from _of_interaction(_read(payload, _Interaction), envelope_id)
        case "slash_commands":
            yield _of_slash(_read(payload, _Slash), envelope_id)


def _of_event(event: dict[str, Any], own: SlackIdentity | None) -> Iterator[PendingEvent]:
    match event.get("type"):
        case "message" if event.get("subtype") in ("message_changed", "message_deleted"):
            yield from _of_news(_read(event, _News), own)
        case "message" | "app_mention" if event.get("subtype") not in NEWS:
            message = _read(event, _Message)
            if (
                message.channel
                and (message.user or message.bot)
                and not message.hidden
                and not _is_own(message, own)
            ):
                yield _of_message(message, event)
        case "reaction_added":
            reaction = _read(event, _Reaction)
            if own is None or reaction.user != own.user_id:
                yield _of_reaction(reaction)


def _is_own(message: _Message, own: SlackIdentity | None) -> bool:
    return own is not None and (
        message.user == own.user_id or bool(own.bot_id and message.bot_id == own.bot_id)
    )


def _of_message(message: _Message, event: dict[str, Any]) -> PendingEvent:
    # A channel and a timestamp identify one message, also if it arrives a second time as a mention
    # of the app.
    bot = message.bot
    text = readable(event, whole=message.is_of_program)
    # Those of a person's message are its text once more.
    blocks = message.blocks if message.is_of_program else None
    parts = [
        objects(each) or msgspec.UNSET for each in (message.attachments, blocks, message.files)
    ]
    return PendingEvent(
        f"message.{message.channel}.{message.ts}",
        message.channel,
        (message.user or "",),
        lambda people: ReceivedMessage(
            channel_id=message.channel,
            user=bot or people[0],
            message=text,
            timestamp=message.ts,
            thread_timestamp=message.thread_ts or message.ts,
            reply_count=message.reply_count,
            replies=message.replies,
            attachments=parts[0],
            blocks=parts[1],
            files=parts[2],
        ),
    )


def _of_news(news: _News, own: SlackIdentity | None) -> Iterator[PendingEvent]:
    """Read that a message was changed or deleted.

    Previews that Slack adds to links later change nothing.
    """
    is_deleted = not news.message or news.message.get("subtype") == _TOMBSTONE
    # Slack leaves out the former message at times; its author is then that of the edited one.
    former = news.previous_message or (news.message if "edited" in news.message else {})
    if not former:
        return
    before = _read({"ts": news.deleted_ts, **former}, _Message)
    after = before if is_deleted else _read(news.message, _Message)
    old, new = (
        readable(each, whole=before.is_of_program) for each in (news.previous_message, news.message)
    )
    if (
        _is_own(before, own)
        or _is_own(after, own)
        or not (before.user or before.bot)
        or (not is_deleted and old == new)
    ):
        return
    place = (before.ts, before.thread_ts or before.ts)

    def payload(people: Sequence[User]) -> msgspec.Struct:
        who = before.bot or people[0]
        if is_deleted:
            return MessageDeleted(news.channel, who, old, *place)
        return MessageEdited(news.channel, who, new, old, *place)

    what = "deleted" if is_deleted else "edited"
    key = f"{what}.{news.channel}.{before.ts}.{news.event_ts or news.ts}"
    yield PendingEvent(key, news.channel, (before.user or "",), payload)


def _of_reaction(reaction: _Reaction) -> PendingEvent:
    item = reaction.item
    return PendingEvent(
        f"reaction.{item.channel}.{item.ts}.{reaction.user}.{reaction.event_ts}",
        item.channel,
        (reaction.user, reaction.item_user or ""),
        lambda people: ReactionAdded(
            user=people[0],
            item_user=people[1],
            item=ReactedItem(item.type, item.ts, item.channel),
            reaction=reaction.reaction,
            event_timestamp=reaction.event_ts,
        ),
    )


def _of_interaction(interaction: _Interaction, envelope_id: str) -> Iterator[PendingEvent]:
    container = interaction.container or _Container()
    message = interaction.message or interaction.original_message or _Posted()
    channel_id = interaction.channel.id if interaction.channel else container.channel_id
    timestamp = message.ts or container.message_ts or interaction.message_ts
    thread = message.thread_ts or container.thread_ts or timestamp
    for action in interaction.actions:
        action_id, block_id = (
            action.action_id or action.name,
            action.block_id or interaction.callback_id,
        )
        made_at = action.action_ts or interaction.action_ts or envelope_id
        yield PendingEvent(
            f"button.{channel_id}.{timestamp}.{interaction.user.id}.{made_at}.{action_id}"[:255],
            channel_id,
            (interaction.user.id,),
            partial(
                _pressed_by,
                ButtonPressed(
                    channel_id, _NOBODY, action_id, block_id, action.chosen, timestamp, thread
                ),
            ),
        )


def _pressed_by(pressed: ButtonPressed, people: Sequence[User]) -> ButtonPressed:
    return msgspec.structs.replace(pressed, user=people[0])


def _of_slash(slash: _Slash, envelope_id: str) -> PendingEvent:
    return PendingEvent(
        f"slash.{slash.trigger_id or envelope_id}"[:255],
        slash.channel_id,
        (slash.user_id,),
        lambda people: SlashCommand(slash.channel_id, people[0], slash.command, slash.text),
    )


def _read(value: object, kind: type[T]) -> T:
    return msgspec.convert(value, kind, strict=False)
