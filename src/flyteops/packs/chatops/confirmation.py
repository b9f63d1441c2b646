"""Questions that wait for somebody's yes: who may give it, and how long it counts."""

from itertools import count
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
        self._ids: set[str] = set()

    def free_id(self, wanted: str) -> str:
        """Return an id that no question has or had: the wanted one, or that with a number."""
        question_id = wanted.casefold()
        for number in count(2):
            if question_id not in self._ids:
                break
            question_id = f"{wanted.casefold()}-{number}"
        self._ids.add(question_id)
        return question_id

    def add(self, question: Question) -> None:
        """Let a question wait."""
        self._open[question.id] = question

    def find(self, question_id: str, channel_id: str, now: float) -> Question | None:
        """Return a question of a channel that still counts."""
        return next((each for each in self.of(channel_id, now) if each.id == question_id.casefold()), None)

    def of(self, channel_id: str, now: float) -> list[Question]:
        """Return the questions of a channel that still count."""
        return [each for each in self._open.values() if each.request.channel_id == channel_id and now < each.expires_at]

    def settle(self, question: Question) -> None:
        """Let a question wait no longer."""
        self._open.pop(question.id, None)

    def expire(self, question_id: str) -> Question | None:
        """Return a question that was not settled until now; it waits no longer."""
        return self._open.pop(question_id, None)
