"""The pack: the commands and events of Slack, on its Web API and Socket Mode."""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from slack_sdk.socket_mode.request import SocketModeRequest

from flyteops.errors import ForbiddenError, InputError, UnavailableError
from flyteops.packs.chatops.command import declare_commands
from flyteops.packs.chatops.message import (
    ButtonPressed,
    Channel,
    MessageDeleted,
    MessageEdited,
    ReactionAdded,
    ReceivedMessage,
    RichMessageSent,
    SendRichMessage,
    UpdateMessage,
)
from flyteops.packs.chatops.service import ChatOps
from flyteops.packs.slack.api import API_URL, SlackApi, SlackIdentity
from flyteops.packs.slack.connection import SocketModeConnection
from flyteops.packs.slack.deduplicator import Deduplicator
from flyteops.packs.slack.directory import Directory
from flyteops.packs.slack.envelope import PendingEvent, SlashCommand, parse_events
from flyteops.packs.slack.markup import escape_attachments, escape_blocks, escape_mentions
from flyteops.packs.slack.messenger import SlackMessenger, chat_message_of, decision, person
from flyteops.packs.slack.spool import Spool, Spooled, default_folder
from flyteops.retry import FailureLog, retry_call
from flyteops.sdk import EventType, Pack, Reader
from flyteops.sdk.environment import flag, token

LOGGER = logging.getLogger("flyte.slack")

MAX_TEXT_LENGTH = 40_000
"""Maximum number of characters of a message that Slack keeps."""

NEEDED_SCOPES = frozenset({"chat:write", "users:read", "channels:read"})


class SlackSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The credentials for a workspace; without an app token there are commands, but no events."""

    token: str = ""
    app_token: str | None = None
    api_url: str = API_URL
    renew_channels: float = 24 * 3600.0
    own_messages: bool = False
    spool: Path | msgspec.UnsetType | None = msgspec.UNSET

    def __repr__(self) -> str:
        return f"Settings(api_url={self.api_url!r})"

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "SlackSettings":
        """Read the variables; raise `SettingsError` with every fault at once."""
        reader = Reader(environ)
        settings = cls(
            token=reader.require(
                "FLYTE_SLACK_TOKEN",
                _bot_token,
                "the bot token of the Slack app, which begins with xoxb-",
                "",
            ),
            app_token=reader.read("FLYTE_SLACK_APP_TOKEN", _app_token, None),
            api_url=reader.read("FLYTE_SLACK_API_URL", _url, API_URL),
            renew_channels=reader.read("RENEW_CONVERSATION_LIST", _hours, 24 * 3600.0),
            own_messages=reader.read("FLYTE_SLACK_OWN_MESSAGES", flag, False),
            spool=reader.read("FLYTE_SLACK_SPOOL", _folder, msgspec.UNSET),
        )
        reader.finish()
        return settings


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack; its settings are on its page."""
    settings = SlackSettings.read(environ)
    pack = Pack("Slack", poll_interval=1.0)
    api = SlackApi(settings.token, settings.app_token, settings.api_url)
    directory = Directory(api, settings.renew_channels, lambda: pack.clock().monotonic())
    declare_commands(pack, Slack(api, directory))
    _Listener(pack, api, directory, settings, environ)
    return pack


class Slack:
    """A workspace as seen by flows."""

    def __init__(self, api: SlackApi, directory: Directory) -> None:
        self._api = api
        self._directory = directory

    async def post(self, text: str, channel_id: str, thread: str, *, markup: bool = False) -> str:
        """Post a message and return its timestamp.

        One that is too long for Slack is cut, with a note.
        """
        shown = text if markup else escape_mentions(text)
        answer = await self._api.post(
            channel=channel_id, text=_cut(shown), **({"thread_ts": thread} if thread else {})
        )
        return str(answer.get("ts") or "")

    async def post_rich(self, asked: SendRichMessage) -> RichMessageSent:
        """Post a message as `chat.postMessage` takes it, with the defaults of the original pack."""
        answer = await self._api.post(**_rich(asked))
        return RichMessageSent(
            str(answer.get("channel") or asked.channel or ""), str(answer.get("ts") or "")
        )

    async def update(self, asked: UpdateMessage) -> None:
        """Change a message that was posted before."""
        text, attachments, blocks = asked.message or "", asked.attachments or [], asked.blocks or []
        if not asked.markup:
            # Slack finds names in the new text of a message, unlike in a new message.
            text, blocks = escape_mentions(text, links_names=True), escape_blocks(blocks)
            attachments = escape_attachments(attachments, links_names=True)
        await self._api.update(
            channel=asked.channel_id,
            ts=asked.timestamp,
            text=_cut(text),
            attachments=attachments,
            blocks=blocks,
        )

    async def find_channel(self, name: str) -> Channel:
        """Return the channel with a name."""
        return await self._directory.channel(name)


class _Listener:
    """Sends the events of a workspace to Flyte."""

    def __init__(
        self,
        pack: Pack,
        api: SlackApi,
        directory: Directory,
        settings: SlackSettings,
        environ: Mapping[str, str],
    ) -> None:
        self._pack = pack
        self._api = api
        self._settings = settings
        self._environ = environ
        kinds = (
            ReceivedMessage,
            MessageEdited,
            MessageDeleted,
            ReactionAdded,
            ButtonPressed,
            SlashCommand,
        )
        self._events: dict[type, EventType[Any]] = {
            kind: pack.event(kind.__name__, kind) for kind in kinds
        }
        self._ops = ChatOps(pack, SlackMessenger(api, directory))
        self._directory = directory
        self._spool: Spool | None = None
        self._intake = Deduplicator(directory, self._send)
        self._connection = SocketModeConnection(api, self._take)
        self._outage = FailureLog("Slack", LOGGER)
        self._identity: SlackIdentity | None = None
        self._is_running = False
        pack.task(self.listen)
        pack.check("Slack")(self.check)

    async def listen(self) -> None:
        """Find the identity, and send events until the pack stops; raise if a token is rejected."""
        self._is_running = True
        pause = self._pack.clock().back_off
        async with self._api.session():
            with _naming("FLYTE_SLACK_TOKEN"):
                self._identity = await retry_call(
                    self._api.identify, pause=pause, outage=self._outage
                )
            LOGGER.info("%s", _greeting(self._identity))
            if self._settings.app_token is None:
                LOGGER.warning(
                    "commands work, but no events are received from Slack: set"
                    " FLYTE_SLACK_APP_TOKEN"
                )
                await asyncio.Event().wait()
            self._open_spool(self._identity)
            self._resume()
            try:
                with _naming("FLYTE_SLACK_APP_TOKEN"):
                    await self._connection.keep(pause)
            finally:
                await self._intake.finish()

    async def check(self) -> str:
        """Report the connection of a running pack; for one that is not running, try to connect."""
        identity = self._identity if self._is_running else await self._try()
        if identity is None:
            raise UnavailableError(self._outage.reason or "not connected yet")
        if self._settings.app_token is None:
            return f"{_greeting(identity)}; no events, as FLYTE_SLACK_APP_TOKEN is not set"
        if self._is_running and self._connection.trouble is not None:
            raise UnavailableError(self._connection.trouble)
        return _greeting(identity)

    async def _try(self) -> SlackIdentity:
        with _naming("FLYTE_SLACK_TOKEN"):
            identity = await self._api.identify()
        missing = NEEDED_SCOPES - (NEEDED_SCOPES if identity.scopes is None else identity.scopes)
        if missing:
            message = (
                f"missing_scope: {', '.join(sorted(missing))}: add it to the Slack app, and install"
                " the app again"
            )
            raise ForbiddenError(message)
        if self._settings.app_token is not None:
            with _naming("FLYTE_SLACK_APP_TOKEN"):
                await self._api.open_socket()
        return identity

    def _open_spool(self, identity: SlackIdentity) -> None:
        folder = self._settings.spool
        if folder is msgspec.UNSET:
            folder = default_folder(self._environ, f"{identity.team} {identity.user_id}")
        if folder is None:
            LOGGER.info(
                "events from Slack are lost if this pack is killed while Flyte is unavailable: set"
                " FLYTE_SLACK_SPOOL"
            )
        else:
            self._spool = Spool(folder)
            self._intake = Deduplicator(self._directory, self._send, self._spool)

    def _resume(self) -> None:
        """Continue with the occurrences that an earlier run acknowledged, before anything new."""
        kept = list(self._spool.read()) if self._spool is not None else []
        for spooled in kept:
            found = self._read(spooled.kind, spooled.envelope_id, spooled.payload)
            for occurrence in (each for each in found if each.key == spooled.key):
                self._intake.resume(occurrence)
        if kept:
            LOGGER.info("resuming %d events of an earlier run", len(kept))

    async def _take(self, request: SocketModeRequest) -> bool:
        taken = []
        for occurrence in self._read(request.type, request.envelope_id, request.payload):
            spooled = Spooled(
                occurrence.key, request.type, request.envelope_id, dict(request.payload)
            )
            taken.append(await self._intake.take(occurrence, spooled))
        return all(taken)

    def _read(self, kind: str, envelope_id: str, payload: dict[str, Any]) -> list[PendingEvent]:
        own = None if self._settings.own_messages else self._identity
        try:
            return list(parse_events(kind, envelope_id, payload, own))
        except (msgspec.ValidationError, AttributeError) as error:
            LOGGER.warning("Slack sent something that this pack cannot read (%s): %s", kind, error)
            return []

    async def _send(self, payload: msgspec.Struct, key: str) -> None:
        is_yes = decision(payload)
        if isinstance(payload, ButtonPressed) and is_yes is not None:
            place = (payload.channel_id, payload.timestamp)
            await self._ops.answer(payload.value, person(payload.user), place, is_yes=is_yes)
            return
        await self._pack.send(self._events[type(payload)](payload), key=key)
        heard = chat_message_of(
            payload, key, "" if self._identity is None else self._identity.user_id
        )
        if heard is not None:
            await self._ops.hear(heard)


def _rich(asked: SendRichMessage) -> dict[str, Any]:
    """Return the fields to post.

    Absent fields are `false` where the original pack sends that, and left out otherwise.
    """
    has_author = bool(asked.username or asked.icon_url or asked.icon_emoji)
    text = escape(asked.text or "", quote=False) if asked.escape_text else asked.text or ""
    links_names = bool(asked.link_names) or (asked.parse or "") not in ("", "none")
    attachments, blocks = asked.attachments, asked.blocks
    if not asked.markup:
        text, blocks = escape_mentions(text, links_names=links_names), escape_blocks(blocks)
        attachments = escape_attachments(attachments or [], links_names=links_names)
    message: dict[str, Any] = {
        "channel": asked.channel or "",
        "text": _cut(text),
        "unfurl_media": bool(asked.unfurl_media),
        "mrkdwn": bool(asked.mrkdwn),
    }
    if asked.unfurl_links or not has_author:
        message["unfurl_links"] = bool(asked.unfurl_links)
    for name in ("thread_ts", "parse", "username", "icon_url", "icon_emoji"):
        if value := getattr(asked, name):
            message[name] = value
    message |= {
        name: value for name, value in (("attachments", attachments), ("blocks", blocks)) if value
    }
    for name in ("reply_broadcast", "link_names"):
        if getattr(asked, name):
            message[name] = True
    return message


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    note = f"\n[cut: the first {MAX_TEXT_LENGTH} of {len(text)} characters]"
    return text[: MAX_TEXT_LENGTH - len(note)] + note


def _greeting(identity: SlackIdentity) -> str:
    return f"connected to {identity.team or 'Slack'} as {identity.user or identity.user_id}"


@contextmanager
def _naming(variable: str) -> Iterator[None]:
    """Name the token in the error when Slack rejects it."""
    try:
        yield
    except (ForbiddenError, InputError) as error:
        message = f"Slack refuses {variable}: {error}"
        raise ForbiddenError(message) from error


def _bot_token(text: str) -> str:
    if text.strip().startswith("xapp-"):
        raise ValueError("is an app-level token; set it in FLYTE_SLACK_APP_TOKEN")
    return token(text)


def _app_token(text: str) -> str:
    if text.strip().startswith("xox"):
        raise ValueError("is not an app-level token; those begin with xapp-")
    return token(text)


def _hours(text: str) -> float:
    if not re.fullmatch(r"\s*\d{1,6}\s*", text):
        message = f"{text!r} is not a number of whole hours"
        raise ValueError(message)
    return int(text) * 3600.0


def _folder(text: str) -> Path | None:
    return None if text.strip().lower() in ("", "off") else Path(text.strip()).expanduser()


def _url(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = f"{text!r} is not an address such as {API_URL}"
        raise ValueError(message)
    return text.strip()
