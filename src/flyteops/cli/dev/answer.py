"""Answers to messages of a chat: waiting for their executions, and replies shown by other chats."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any

import msgspec

from flyteops.cli.api import connect, fetch, path
from flyteops.errors import FlyteError, NotFoundError
from flyteops.model import PackRef
from flyteops.packs.chat import Channel, Room, Spoken
from flyteops.sdk.client import Client
from flyteops.web.api.schemas.audit import AuditAction, ExecutionList, ExecutionView

LOGGER = logging.getLogger("flyte.chat")

ASK_EVERY = 0.1
"""Seconds between two looks at the executions waited for."""

LOOKS = frozenset([1, 2, 4, 8, 16, 32, 64, 128, 256])
"""Seconds after the last message at which answers taken by another chat are looked up."""

LATEST = 50
"""The number of last messages for which they are looked up."""

SHOWING = ("SendMessage", "SendRichMessage")


async def settled(
    client: Client, pack: PackRef, said: Sequence[Spoken], within: float
) -> list[AuditAction]:
    """Wait until all executions of these messages end, or the time is over; return the actions.

    An action that shows a message in a room ends after it was shown, so nothing is missed.
    """
    timestamps = {each.timestamp for each in said}
    deadline = asyncio.get_running_loop().time() + within
    while True:
        actions = actions_begun_by(await _executions(client), pack, timestamps)
        if (
            not any(is_open(action) for action in actions)
            or asyncio.get_running_loop().time() >= deadline
        ):
            return actions
        await asyncio.sleep(ASK_EVERY)


async def follow(
    room: Room,
    pack: PackRef,
    said: Sequence[Spoken],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Show answers to these messages that another chat of the same name took; run without end.

    Messages may be added meanwhile. The server hands each command to one of the chats, regardless
    of the sender of the message.
    """
    seconds = seen = 0
    while True:
        await pause(1)
        seconds, seen = (seconds + 1 if len(said) == seen else 1), len(said)
        if not said or seconds not in LOOKS:
            continue
        try:
            async with connect() as client:
                actions = actions_begun_by(
                    await _executions(client), pack, {each.timestamp for each in said[-LATEST:]}
                )
        # Without the right to read the history, the chat shows its own answers only.
        except FlyteError as error:
            LOGGER.debug("cannot look for answers taken by another chat: %s", error)
            continue
        post_replies_of_other_chats(room, pack, actions)


async def _executions(client: Client) -> list[ExecutionView]:
    return (await fetch(client, path("audit", "flows"), ExecutionList, limit="200")).flows


def actions_begun_by(
    executions: Sequence[ExecutionView], pack: PackRef, timestamps: Collection[str]
) -> list[AuditAction]:
    """Return the actions of executions that messages of a pack with these timestamps began."""
    return [
        action
        for execution in executions
        if any(_was_begun(action, pack, timestamps) for action in execution.actions.values())
        for action in execution.actions.values()
    ]


def _was_begun(action: AuditAction, pack: PackRef, timestamps: Collection[str]) -> bool:
    payload = action.trigger.payload
    if action.trigger.pack.id != pack.id or isinstance(payload, msgspec.UnsetType):
        return False
    text = bytes(payload).decode()
    return any(timestamp in text for timestamp in timestamps)


def is_open(action: AuditAction) -> bool:
    """Return whether the action is unfinished."""
    return action.state.value in ("NEW", "PENDING")


def open_text(action: AuditAction) -> str:
    """Return the reason why an open action waits."""
    state = "waits for a pack that takes it" if action.state.value == "NEW" else "is being executed"
    return (
        f"{action.flow_name} / {action.step_id}: {action.name} of pack {action.pack_name} {state}"
    )


def post_replies_of_other_chats(room: Room, pack: PackRef, actions: Sequence[AuditAction]) -> None:
    """Post answers of flows to this chat that another pack of the same name took and showed."""
    ours = Counter(
        (message.text if message.first_text is None else message.first_text, message.channel.id)
        for message in room.messages
        if message.user.id == room.bot.id
    )
    for text, channel, thread in _answers(room, pack, actions):
        if ours[text, channel.id]:
            ours[text, channel.id] -= 1
        else:
            room.post(text, channel=channel, thread=thread)


def _answers(
    room: Room, pack: PackRef, actions: Sequence[AuditAction]
) -> Iterator[tuple[str, Channel, str]]:
    for action in actions:
        if (
            action.pack_name != pack.name
            or action.name not in SHOWING
            or action.state.value != "SUCCESS"
        ):
            continue
        asked: Any = (
            None
            if isinstance(action.input, msgspec.UnsetType)
            else msgspec.json.decode(action.input)
        )
        if isinstance(asked, dict):
            place = str(asked.get("channelId") or asked.get("channel") or "")
            text = str(asked.get("message") or asked.get("text") or "")
            yield (
                text,
                _channel(room, place),
                str(asked.get("threadTimestamp") or asked.get("thread_ts") or ""),
            )


def _channel(room: Room, place: str) -> Channel:
    try:
        return room.channel(place)
    except NotFoundError:
        return Channel(place, place)
