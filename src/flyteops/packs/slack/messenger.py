"""Commands in Slack: messages as plain text, and replies in Slack's format, with buttons."""

import re
from html import escape, unescape
from typing import Any

import msgspec

from flyteops.errors import FlyteError
from flyteops.packs.chatops.dispatcher import ChatMessage
from flyteops.packs.chatops.message import ButtonPressed, ReceivedMessage, User
from flyteops.packs.chatops.permission import Person
from flyteops.packs.chatops.typed import without_gap
from flyteops.packs.slack.api import SlackApi
from flyteops.packs.slack.directory import Directory
from flyteops.packs.slack.envelope import SlashCommand
from flyteops.packs.slack.markup import escape_mentions

APPROVE, REFUSE = "flyte.approve", "flyte.refuse"

_MARKUP = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_MAX_SECTION_LENGTH = 3000


class SlackMessenger:
    """The bot's output in Slack."""

    def __init__(self, api: SlackApi, directory: Directory) -> None:
        self._api = api
        self._directory = directory

    async def say(self, text: str, channel_id: str, thread: str) -> None:
        """Post a text in a thread."""
        await self._post(text, channel_id, thread)

    async def ask(self, text: str, channel_id: str, thread: str, question_id: str) -> str:
        """Ask for a decision with two buttons, and return the timestamp of the question."""
        section = {
            "type": "section",
            "text": {"type": "mrkdwn", "text": _shown(text)[:_MAX_SECTION_LENGTH]},
        }
        buttons = [
            _button("Approve", APPROVE, question_id, "primary"),
            _button("Refuse", REFUSE, question_id, "danger"),
        ]
        return await self._post(
            text, channel_id, thread, blocks=[section, {"type": "actions", "elements": buttons}]
        )

    async def replace(self, text: str, channel_id: str, timestamp: str) -> None:
        """Post a text in place of an earlier message, which loses its buttons."""
        await self._api.update(channel=channel_id, ts=timestamp, text=_shown(text), blocks=[])

    async def channel_names(self, channel_id: str) -> frozenset[str]:
        """Return the name of a channel; none if it is not listed."""
        try:
            name = await self._directory.channel_name(channel_id)
        except FlyteError:
            return frozenset()
        return frozenset() if name is None else frozenset({name})

    async def _post(self, text: str, channel_id: str, thread: str, **more: Any) -> str:
        place = {"thread_ts": thread} if thread else {}
        answer = await self._api.post(channel=channel_id, text=_shown(text), **place, **more)
        return str(answer.get("ts") or "")


def chat_message_of(payload: msgspec.Struct, key: str, own_id: str) -> ChatMessage | None:
    """Return a message of a user other than the app: in a channel, or as a slash command."""
    if isinstance(payload, SlashCommand):
        return ChatMessage(
            plain(payload.text),
            person(payload.user),
            payload.channel_id,
            "",
            "",
            key,
            is_addressed=True,
        )
    if (
        not isinstance(payload, ReceivedMessage)
        or payload.user.id in ("", own_id)
        or payload.user.id.startswith("B")
    ):
        return None  # bots and webhooks without a user give no commands
    text = without_gap(payload.message)
    to_us = re.sub(rf"^<@{re.escape(own_id)}(\|[^<>]*)?>[\s:,]*", "", text) if own_id else text
    is_addressed = to_us != text or payload.channel_id.startswith("D")
    place = (payload.channel_id, payload.timestamp, payload.thread_timestamp)
    return ChatMessage(plain(to_us), person(payload.user), *place, key, is_addressed=is_addressed)


def decision(payload: msgspec.Struct) -> bool | None:
    """Return the decision by one of our buttons, or None for anything else."""
    if not isinstance(payload, ButtonPressed):
        return None
    return {APPROVE: True, REFUSE: False}.get(payload.action_id)


def person(user: User) -> Person:
    """Return a person.

    Rules name people by id or address, since people choose all else themselves.
    """
    return Person.known_as(user, (user.id, user.email))


def plain(text: str) -> str:
    """Return a text as it was typed: links and channels by their labels, people as they are."""

    def shown(found: re.Match[str]) -> str:
        target, label = found[1], found[2]
        if target.startswith("@"):
            return f"<{target}>"
        if target.startswith("!date"):
            return label or target
        if target.startswith(("#", "!")):
            mark, name = (
                ("#", target[1:]) if target[0] == "#" else ("@", target[1:].rpartition("^")[2])
            )
            return f"{mark}{(label or name).removeprefix(mark)}"
        return label or target.removeprefix("mailto:")

    return unescape(_MARKUP.sub(shown, text))


def _shown(text: str) -> str:
    return escape_mentions(escape(text, quote=False), links_names=True)


def _button(label: str, action_id: str, value: str, style: str) -> dict[str, Any]:
    return {
        "type": "button",
        "text": {"type": "plain_text", "text": label},
        "action_id": action_id,
        "value": value,
        "style": style,
    }
