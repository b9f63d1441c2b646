"""The chat-ops service: reads declared commands, carries out decisions, expires questions."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from flyteops.errors import FlyteError, InputError, NotFoundError, UnavailableError
from flyteops.packs.chatops.catalog import DATA_KEY, CommandCatalog, read_catalog
from flyteops.packs.chatops.confirmation import Question
from flyteops.packs.chatops.dispatcher import (
    ChatAction,
    ChatMessage,
    CommandDispatcher,
    PostReply,
    SendEvent,
    SettleQuestion,
)
from flyteops.packs.chatops.message import CommandReceived, CommandRefused
from flyteops.packs.chatops.permission import Person
from flyteops.sdk import Pack

LOGGER = logging.getLogger("flyte.chatops")

READ_AGAIN = 10.0
"""Seconds for which a reading of the datastore is valid."""

LOOK_AGAIN = 3600.0
"""Seconds between checks for faults while nobody posts a message."""

GONE = (
    "This question is closed: it was answered, it expired, or the bot restarted. Send the command"
    " again."
)


class Messenger(Protocol):
    """The bot's output in a chat; texts are plain, and the chat escapes them."""

    async def say(self, text: str, channel_id: str, thread: str) -> None:
        """Post a text."""

    async def ask(self, text: str, channel_id: str, thread: str, question_id: str) -> str:
        """Ask for a decision, and return the timestamp of the question."""

    async def channel_names(self, channel_id: str) -> frozenset[str]:
        """Return the names by which rules may mean a channel."""

    async def replace(self, text: str, channel_id: str, timestamp: str) -> None:
        """Post a text in place of an earlier message."""


class ChatOps:
    """Turns messages into commands that flows can rely on."""

    def __init__(
        self, pack: Pack, voice: Messenger, *, new_id: Callable[[], str] | None = None
    ) -> None:
        self._pack = pack
        self._voice = voice
        self._dispatcher = CommandDispatcher(new_id or (lambda: secrets.token_hex(3)))
        self._received = pack.event("CommandReceived", CommandReceived)
        self._refused = pack.event("CommandRefused", CommandRefused)
        self._catalog = CommandCatalog()
        self._read_at: float | None = None
        self._fault = ""
        self._places: dict[str, str] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        pack.reads(DATA_KEY)
        pack.task(self.watch)

    async def watch(self) -> None:
        """Check the declaration at the start; faults are logged before the first message."""
        while True:
            await self._look(reports_absence=False)
            await self._pack.sleep(LOOK_AGAIN)

    async def hear(self, said: ChatMessage) -> None:
        """Handle a message, and return when everything that follows at once is done."""
        catalog = await self._read()
        if catalog.has_places:
            said = msgspec.structs.replace(
                said, channel_names=await self._voice.channel_names(said.channel_id)
            )
        await self._do(self._dispatcher.hear(catalog, said, self._now()))

    async def answer(
        self, question_id: str, person: Person, place: tuple[str, str], *, is_yes: bool
    ) -> None:
        """Handle an answer given by a button.

        `place` is the channel and the timestamp of the question.
        """
        channel_id, timestamp = place
        is_shown = self._places.get(question_id, timestamp) == timestamp
        deeds = (
            self._dispatcher.answer(question_id, channel_id, person, self._now(), is_yes=is_yes)
            if is_shown
            else []
        )
        await self._do(deeds)
        if not deeds:
            await self._try(lambda: self._voice.replace(GONE, *place))

    def _now(self) -> float:
        return self._pack.clock().monotonic()

    async def _read(self) -> CommandCatalog:
        """Return the current declaration, or the previous one while that cannot be read."""
        if self._read_at is not None and self._now() - self._read_at < READ_AGAIN:
            return self._catalog
        self._read_at = self._now()
        found = await self._look()
        self._catalog = self._catalog if found is None else found
        return self._catalog

    async def _look(self, *, reports_absence: bool = True) -> CommandCatalog | None:
        """Return the current declaration; None while it cannot be used, which is logged once.

        The pack reports an unreachable server as well, so that need not be logged before the first
        message.
        """
        found, fault = None, ""
        try:
            found = read_catalog(await self._pack.data(DATA_KEY))
        except NotFoundError:
            found = CommandCatalog()
        except UnavailableError as error:
            if not reports_absence:
                return None
            fault = str(error)
        except FlyteError as error:
            fault = f"not valid: {error}" if isinstance(error, InputError) else str(error)
        if fault and fault != self._fault:
            LOGGER.error(
                "the datastore item %s cannot be used: %s; keeping the previous declaration",
                DATA_KEY,
                fault,
            )
        elif self._fault and not fault:
            LOGGER.info("the datastore item %s can be used again", DATA_KEY)
        self._fault = fault
        return found

    async def _do(self, deeds: Sequence[ChatAction]) -> None:
        for deed in deeds:
            match deed:
                case SendEvent(payload=CommandReceived() as payload, key=key):
                    await self._pack.send(self._received(payload), key=key)
                case SendEvent(payload=CommandRefused() as payload, key=key):
                    await self._pack.send(self._refused(payload), key=key)
                case SettleQuestion(question=question, text=text):
                    await self._settle(question, text)
                case PostReply(question=Question() as question):
                    await self._ask(deed, question)
                case PostReply():
                    await self._say(deed)

    async def _say(self, reply: PostReply) -> None:
        await self._try(lambda: self._voice.say(reply.text, reply.channel_id, reply.thread))

    async def _ask(self, reply: PostReply, question: Question) -> None:
        async def ask() -> None:
            place = (reply.channel_id, reply.thread)
            self._places[question.id] = await self._voice.ask(reply.text, *place, question.id)

        await self._try(ask)
        waiting = asyncio.create_task(self._expire(question))
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)

    async def _expire(self, question: Question) -> None:
        await self._pack.sleep(question.confirmation.within)
        await self._do(self._dispatcher.expire(question.id))

    async def _settle(self, question: Question, text: str) -> None:
        timestamp = self._places.pop(question.id, None)
        channel_id, thread = question.request.channel_id, question.request.thread
        if timestamp is None:
            await self._try(lambda: self._voice.say(text, channel_id, thread))
        else:
            await self._try(lambda: self._voice.replace(text, channel_id, timestamp))

    async def _try(self, speak: Callable[[], Awaitable[None]]) -> None:
        """Run a post; if it fails, the decision stands."""
        try:
            await speak()
        except FlyteError as error:
            LOGGER.warning("the chat rejected an answer: %s", error)
