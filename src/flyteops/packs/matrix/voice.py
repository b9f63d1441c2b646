"""Commands in Matrix: questions are answered by a reaction, too."""

import logging
import re
from collections import OrderedDict

from flyteops.errors import FlyteError
from flyteops.packs.chatops.message import User
from flyteops.packs.chatops.permission import Person
from flyteops.packs.matrix.api import Api
from flyteops.packs.matrix.content import Text, edit, message, reaction
from flyteops.packs.matrix.room import Rooms
from flyteops.packs.matrix.timeline import Reaction

LOGGER = logging.getLogger("flyte.matrix")

APPROVE, REFUSE = "✅", "❌"
_MEANING = {APPROVE: True, "👍": True, REFUSE: False, "👎": False}
_TONES = dict.fromkeys([0xFE0F, *range(0x1F3FB, 0x1F400)])
_MOST_QUESTIONS = 1000
_USER_ID = re.compile(r"@[a-z0-9._=/+-]+:[a-z0-9.:\[\]-]+")


class Voice:
    """How commands are answered in Matrix."""

    def __init__(self, api: Api, rooms: Rooms) -> None:
        self._api = api
        self._rooms = rooms
        self._questions: OrderedDict[str, str] = OrderedDict()

    async def say(self, text: str, channel_id: str, thread: str) -> None:
        """Say something in a thread, as a notice: no other bot answers it."""
        await self._api.send(channel_id, "m.room.message", message(Text(text, is_notice=True), thread=thread))

    async def ask(self, text: str, channel_id: str, thread: str, question_id: str) -> str:
        """Ask for a decision, with the two reactions to press, and return the id of the question."""
        asked = message(Text(f"{text}\n{APPROVE} or {REFUSE} here do as well."), thread=thread)
        event_id = await self._api.send(channel_id, "m.room.message", asked)
        self._questions[event_id] = question_id
        if len(self._questions) > _MOST_QUESTIONS:
            self._questions.popitem(last=False)
        try:
            for key in (APPROVE, REFUSE):
                await self._api.send(channel_id, "m.reaction", reaction(event_id, key))
        except FlyteError as error:
            LOGGER.warning("the question has no reactions to press: %s", error)
        return event_id

    async def replace(self, text: str, channel_id: str, timestamp: str) -> None:
        """Say something in the place of what was said before; reactions to it decide no longer."""
        self._questions.pop(timestamp, None)
        await self._api.send(channel_id, "m.room.message", edit(Text(text), timestamp))

    async def channel_names(self, channel_id: str) -> frozenset[str]:
        """Return the addresses of a room."""
        return await self._rooms.names(channel_id)

    def decision(self, given: Reaction) -> tuple[str, bool] | None:
        """Return which question a reaction decides, and how; None if it is just a reaction."""
        question_id, is_yes = self._questions.get(given.message_id), _MEANING.get(given.key.translate(_TONES))
        return None if question_id is None or is_yes is None else (question_id, is_yes)


def person(user: User) -> Person:
    """Return a person, meant by id.

    Rules do not look at case, nor at an `@` in front; so an id of old times that differs from another by that only is nobody's.
    """
    return Person.known_as(user, (user.id,) if _USER_ID.fullmatch(user.id) else ())
