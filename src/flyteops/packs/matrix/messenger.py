"""Commands in Matrix: questions are answered by a reaction, too."""

import logging
import re
from collections import OrderedDict

from flyteops.errors import FlyteError
from flyteops.packs.chatops.message import User
from flyteops.packs.chatops.permission import Person
from flyteops.packs.matrix.api import MatrixApi
from flyteops.packs.matrix.content import MessageText, edit, message, reaction
from flyteops.packs.matrix.room import Rooms
from flyteops.packs.matrix.timeline import Reaction

LOGGER = logging.getLogger("flyte.matrix")

APPROVE, REFUSE = "✅", "❌"
_MEANING = {APPROVE: True, "👍": True, REFUSE: False, "👎": False}
_TONES = dict.fromkeys([0xFE0F, *range(0x1F3FB, 0x1F400)])
_MAX_QUESTIONS = 1000
_USER_ID = re.compile(r"@[a-z0-9._=/+-]+:[a-z0-9.:\[\]-]+")


class MatrixMessenger:
    """The bot's output in Matrix."""

    def __init__(self, api: MatrixApi, rooms: Rooms) -> None:
        self._api = api
        self._rooms = rooms
        self._questions: OrderedDict[str, str] = OrderedDict()

    async def say(self, text: str, channel_id: str, thread: str) -> None:
        """Post a text in a thread, as a notice: other bots do not answer it."""
        await self._api.send(
            channel_id, "m.room.message", message(MessageText(text, is_notice=True), thread=thread)
        )

    async def ask(self, text: str, channel_id: str, thread: str, question_id: str) -> str:
        """Ask for a decision, with two reactions to press, and return the id of the question."""
        asked = message(
            MessageText(f"{text}\n{APPROVE} or {REFUSE} work here as well."), thread=thread
        )
        event_id = await self._api.send(channel_id, "m.room.message", asked)
        self._questions[event_id] = question_id
        if len(self._questions) > _MAX_QUESTIONS:
            self._questions.popitem(last=False)
        try:
            for key in (APPROVE, REFUSE):
                await self._api.send(channel_id, "m.reaction", reaction(event_id, key))
        except FlyteError as error:
            LOGGER.warning("the question has no reactions: %s", error)
        return event_id

    async def replace(self, text: str, channel_id: str, timestamp: str) -> None:
        """Post a text in place of an earlier message; reactions to it have no effect any more."""
        self._questions.pop(timestamp, None)
        await self._api.send(channel_id, "m.room.message", edit(MessageText(text), timestamp))

    async def channel_names(self, channel_id: str) -> frozenset[str]:
        """Return the addresses of a room."""
        return await self._rooms.names(channel_id)

    def decision(self, given: Reaction) -> tuple[str, bool] | None:
        """Return the question that a reaction decides, and the decision.

        None for any other reaction.
        """
        question_id, is_yes = (
            self._questions.get(given.message_id),
            _MEANING.get(given.key.translate(_TONES)),
        )
        return None if question_id is None or is_yes is None else (question_id, is_yes)


def person(user: User) -> Person:
    """Return a person. Rules name people by id.

    Rules ignore case and an `@` in front; so a historical id that differs from another only in
    these matches no rule.
    """
    return Person.known_as(user, (user.id,) if _USER_ID.fullmatch(user.id) else ())
