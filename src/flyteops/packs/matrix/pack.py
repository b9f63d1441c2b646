"""The pack: the commands and events of Matrix, on its client-server API."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from flyteops.errors import FlyteError, InputError
from flyteops.packs.chatops import message as chat
from flyteops.packs.chatops.command import (
    declare_get_channel_info,
    declare_send_message,
    declare_update_message,
)
from flyteops.packs.legacy_input import read_input
from flyteops.packs.matrix.api import MatrixApi, MatrixIdentity
from flyteops.packs.matrix.content import MessageText, edit, markdown, message, reaction
from flyteops.packs.matrix.listener import Listener
from flyteops.packs.matrix.room import RoomFound, Rooms
from flyteops.packs.matrix.settings import MatrixSettings
from flyteops.sdk import Event, Pack, fatal


class SendMessage(chat.SendMessage, rename="camel"):
    """The input of the command; a field that is null counts as absent.

    With `markdown` the message is formatted; with `html` that is shown, and `message` by clients
    without HTML. `reply_to` is the message that is answered; other bots do not answer a `notice`.
    """

    markdown: bool | None = False
    html: str | None = ""
    reply_to: str | None = ""
    notice: bool | None = False


class UpdateMessage(chat.UpdateText, rename="camel"):
    """The input of the command: the new text of a message of the bot."""

    markdown: bool | None = False
    html: str | None = ""


class React(msgspec.Struct, rename="camel"):
    """The input of the command; `reaction` is an emoji."""

    channel_id: str | None = ""
    timestamp: str | None = ""
    reaction: str | None = ""


class ReactionSent(msgspec.Struct, rename="camel"):
    """The reaction was added to the message."""

    channel_id: str
    timestamp: str
    reaction: str


class ReactFailed(msgspec.Struct, rename="camel"):
    """The reaction could not be added to the message."""

    channel_id: str
    timestamp: str
    reaction: str
    error: str


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack; its settings are on its page."""
    settings = MatrixSettings.read(environ)
    pack = Pack("Matrix", poll_interval=1.0)

    async def pause(seconds: float) -> None:
        await pack.clock().back_off(seconds)

    device_id = "FLYTE-" + re.sub(r"\W+", "-", environ.get("PACK_NAME", "").strip() or pack.name)
    api = MatrixApi(settings.account, device_id, pause)
    rooms = Rooms(api, lambda: pack.clock().monotonic())
    bot = Matrix(api, rooms)
    declare_send_message(pack, bot.post, SendMessage)
    declare_update_message(pack, bot.update, UpdateMessage)
    declare_get_channel_info(pack, rooms.find, RoomFound)
    _declare_react(pack, bot)
    listener = Listener(pack, api, rooms, settings)
    pack.source(name="rooms")(listener.listen)

    @pack.check("Matrix")
    async def check() -> str:
        if listener.identity is not None:
            return _greeting(listener.identity, settings)
        return await _try(settings, f"{device_id}-check")

    return pack


class Matrix:
    """Rooms as seen by flows."""

    def __init__(self, api: MatrixApi, rooms: Rooms) -> None:
        self._api = api
        self._rooms = rooms

    async def post(self, asked: SendMessage) -> str:
        """Post a message and return its id; one that is too long for Matrix is cut, with a note."""
        text = _text(asked.message, asked.markdown, asked.html)
        text = msgspec.structs.replace(
            text, is_notice=bool(asked.notice), mentions_room=bool(asked.markup)
        )
        content = message(text, thread=asked.thread_timestamp or "", reply_to=asked.reply_to or "")
        return await self._api.send(
            await self._rooms.open(asked.channel_id or ""), "m.room.message", content
        )

    async def update(self, asked: UpdateMessage) -> None:
        """Change a message of the bot."""
        text = _text(asked.message, asked.markdown, asked.html)
        room_id, event_id = await self._rooms.open(asked.channel_id or ""), asked.timestamp or ""
        # The homeserver accepts edits of all messages, but clients do not show those of other
        # users' messages.
        found = await self._api.get("rooms", room_id, "event", event_id)
        if (
            found.get("sender") != (await self._api.identity()).user_id
            or found.get("type") != "m.room.message"
        ):
            raise InputError("this is not a message of the bot")
        await self._api.send(room_id, "m.room.message", edit(text, event_id))

    async def react(self, channel_id: str, event_id: str, key: str) -> None:
        """React to a message; a reaction that exists already counts as success."""
        room_id = await self._rooms.open(channel_id)
        try:
            await self._api.send(room_id, "m.reaction", reaction(event_id, key))
        except InputError as error:
            if not str(error).startswith("M_DUPLICATE_ANNOTATION"):
                raise


def _declare_react(pack: Pack, bot: Matrix) -> None:
    sent, not_sent = (
        pack.event("ReactionSent", ReactionSent),
        pack.event("ReactFailed", ReactFailed, failure=True),
    )

    @pack.command("React", events=[sent, not_sent], takes=React)
    # Any input; the original's rules apply to it.
    async def react(raw: Any) -> Event:  # noqa: ANN401
        try:
            asked = read_input(raw, React)
        except msgspec.ValidationError as error:
            return fatal(f"input is not valid: {error}")
        given = (asked.channel_id or "", asked.timestamp or "", asked.reaction or "")
        if not all(given):
            return not_sent(ReactFailed(*given, "channelId, timestamp and reaction are needed"))
        try:
            await bot.react(*given)
        except FlyteError as error:
            return not_sent(ReactFailed(*given, str(error)))
        return sent(ReactionSent(*given))


def _text(plain: str | None, is_markdown: bool | None, html: str | None) -> MessageText:
    if is_markdown and html:
        raise InputError("a message has markdown or html, not both")
    return markdown(plain or "") if is_markdown else MessageText(plain or "", html or "")


async def _try(settings: MatrixSettings, device_id: str) -> str:
    """Check whether a pack that is not running could run.

    Its session is another one, so that a running pack keeps its own.
    """
    api = MatrixApi(settings.account, device_id, asyncio.sleep, attempts=1)
    async with api.session():
        identity = await api.identify()
        await api.log_out()
    return _greeting(identity, settings)


def _greeting(identity: MatrixIdentity, settings: MatrixSettings) -> str:
    nobody = (
        ""
        if settings.invites.names
        else "; it accepts no invitations, as FLYTE_MATRIX_INVITES is not set"
    )
    return f"connected to {settings.account.homeserver} as {identity.user_id}{nobody}"
