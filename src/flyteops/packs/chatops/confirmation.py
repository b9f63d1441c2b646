"""Questions that wait for somebody's yes: who may give it, and how long it counts."""

from typing import Literal

import msgspec

from flyteops.packs.chatops.catalog import Command, Confirmation
from flyteops.packs.chatops.permission import Person

Verdict = Literal["approved", "refused", "forbidden", "own"]


class Request(msgspec.Struct, frozen=True):
    """A command that somebody gave, with all that flows are told about it."""

    command: Command
    arguments: dict[str, str]
    text: str
    person: Person
    channel_id: str
    timestamp: str
    thread: str
    key: str


class Question(msgspec.Struct, frozen=True):
    """A request that waits for a yes."""

    id: str
    request: Request
    confirmation: Confirmation
    expires_at: float

    def judge(self, person: Person, *, is_yes: bool) -> Verdict:
        """Say what an answer of somebody comes to; who asked may always withdraw."""
        is_own = person.user.id == self.request.person.user.id
        if is_own and not is_yes:
            return "refused"
        if is_own and not self.confirmation.by_self:
            return "own"
        if self.confirmation.permission.refusal(person, ()) is not None:
            return "forbidden"
        return "approved" if is_yes else "refused"


class Questions:
    """The questions that wait, in the order in which they were asked. Each is settled once."""

    def __init__(self) -> None:
        self._open: dict[str, Question] = {}

    def add(self, question: Question) -> None:
        """Let a question wait."""
        self._open[question.id] = question

    def find(self, question_id: str, now: float) -> Question | None:
        """Return a question that still counts."""
        question = self._open.get(question_id)
        return question if question is not None and now < question.expires_at else None

    def only(self, channel_id: str, now: float) -> Question | None:
        """Return the question of a channel, if there is just one that still counts."""
        found = [each for each in self._open.values() if each.request.channel_id == channel_id and now < each.expires_at]
        return found[0] if len(found) == 1 else None

    def settle(self, question: Question) -> None:
        """Let a question wait no longer."""
        self._open.pop(question.id, None)

    def expire(self, question_id: str) -> Question | None:
        """Return a question that was not settled until now; it waits no longer."""
        return self._open.pop(question_id, None)
