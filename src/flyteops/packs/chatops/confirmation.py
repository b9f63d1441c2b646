"""Questions that wait for confirmation: the people who may confirm them, and their expiry."""

from itertools import count
from typing import Literal

import msgspec

from flyteops.packs.chatops.catalog import ChatCommand, Confirmation
from flyteops.packs.chatops.permission import Person

Verdict = Literal["approved", "refused", "forbidden", "own"]


class CommandRequest(msgspec.Struct, frozen=True):
    """A command that a person gave, with all fields that flows receive."""

    command: ChatCommand
    arguments: dict[str, str]
    text: str
    person: Person
    channel_id: str
    timestamp: str
    thread: str
    key: str


class Question(msgspec.Struct, frozen=True):
    """A request that waits for confirmation."""

    id: str
    request: CommandRequest
    confirmation: Confirmation
    expires_at: float

    def judge(self, person: Person, *, is_yes: bool) -> Verdict:
        """Return the verdict of a person's answer; the requester may always withdraw."""
        is_own = person.user.id == self.request.person.user.id
        if is_own and not is_yes:
            return "refused"
        if is_own and not self.confirmation.by_self:
            return "own"
        if self.confirmation.permission.refusal(person, ()) is not None:
            return "forbidden"
        return "approved" if is_yes else "refused"


class QuestionRegistry:
    """The waiting questions, in the order in which they were asked. Each is settled once."""

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

    def has_asked(self, name: str) -> bool:
        """Return whether this is the id of a question, also of one that was settled."""
        return name.casefold() in self._ids

    def add(self, question: Question) -> None:
        """Add a waiting question."""
        self._open[question.id] = question

    def find(self, question_id: str, channel_id: str, now: float) -> Question | None:
        """Return a question of a channel that is still valid."""
        return next(
            (each for each in self.of(channel_id, now) if each.id == question_id.casefold()), None
        )

    def of(self, channel_id: str, now: float) -> list[Question]:
        """Return the questions of a channel that are still valid."""
        return [
            each
            for each in self._open.values()
            if each.request.channel_id == channel_id and now < each.expires_at
        ]

    def settle(self, question: Question) -> None:
        """Remove a question from those that wait."""
        self._open.pop(question.id, None)

    def expire(self, question_id: str) -> Question | None:
        """Remove a question that is not settled yet, and return it."""
        return self._open.pop(question_id, None)
