"""The decisions about messages and answers: pure, with the time and question names as arguments."""

from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from flyteops.packs.chatops.catalog import ChatCommand, CommandCatalog
from flyteops.packs.chatops.confirmation import CommandRequest, Question, QuestionRegistry
from flyteops.packs.chatops.message import CommandReceived, CommandRefused, User
from flyteops.packs.chatops.pattern import MAX_TEXT, CommandPattern, split
from flyteops.packs.chatops.permission import Person, Reason
from flyteops.packs.chatops.typed import is_same, without_code_marks, without_punctuation

HELP = CommandPattern.parse("help [{command...}]")
APPROVE, REFUSE = (
    CommandPattern.parse("approve [{question}]"),
    CommandPattern.parse("refuse [{question}]"),
)

NO_COMMANDS = (
    "No commands are declared yet: declare them in the datastore item `chatops`. Flows still"
    " receive all messages."
)

_MAX_ID_LENGTH = 40


class ChatMessage(msgspec.Struct, frozen=True):
    """A person's message.

    `key` identifies it for good, and `channel_names` are further names of its channel.
    `is_addressed` means that it is for the bot, such as in a message to it alone; `is_console`,
    that it was posted in a chat for trying flows, where `help` is always answered.
    """

    text: str
    person: Person
    channel_id: str
    timestamp: str
    thread: str
    key: str
    is_addressed: bool = False
    is_console: bool = False
    channel_names: frozenset[str] = frozenset()

    @property
    def channel(self) -> frozenset[str]:
        """All names of the channel."""
        return self.channel_names | {self.channel_id}


class PostReply(msgspec.Struct, frozen=True):
    """Post a reply to a message; with a `question`, people are asked for their answer to it."""

    text: str
    channel_id: str
    thread: str
    question: Question | None = None


class SettleQuestion(msgspec.Struct, frozen=True):
    """Replace a question by its outcome."""

    question: Question
    text: str


class SendEvent(msgspec.Struct, frozen=True):
    """Send an event to flows; the same `key` is the same event."""

    payload: CommandReceived | CommandRefused
    key: str


ChatAction = PostReply | SettleQuestion | SendEvent


class CommandDispatcher:
    """Takes the messages and answers of people, and returns the actions that follow."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._questions = QuestionRegistry()

    def hear(self, catalog: CommandCatalog, said: ChatMessage, now: float) -> list[ChatAction]:
        """Return the actions that follow from a message."""
        text, is_addressed = _without_prefix(catalog.prefix, said)
        if not is_addressed and catalog.prefix:
            if said.is_console and HELP.match(text) is not None:
                return _hear_help(catalog, text, said, is_addressed)
            return list(
                self._hear_answer(catalog, text, said, now)
                or self._hear_misfit(catalog, text, said, now)
            )
        return list(
            self._hear_answer(catalog, text, said, now)
            or self._hear_command(catalog, text, said, now)
            or self._hear_misfit(catalog, text, said, now)
            or _hear_help(catalog, text, said, is_addressed)
        )

    def answer(
        self, question_id: str, channel_id: str, person: Person, now: float, *, is_yes: bool
    ) -> list[ChatAction]:
        """Return the actions that follow from an answer to a question of a channel.

        None follow if there is no such question, or if it has expired.
        """
        question = self._questions.find(question_id, channel_id, now)
        return [] if question is None else self._judge(question, person, is_yes=is_yes)

    def _judge(self, question: Question, person: Person, *, is_yes: bool) -> list[ChatAction]:
        request, who = question.request, _name(person.user)
        match question.judge(person, is_yes=is_yes):
            case "own":
                return [_reply(request, f"{who}, you cannot approve what you asked for yourself.")]
            case "forbidden":
                return [_reply(request, f"{who}, you may not decide about this.")]
            case "approved":
                self._questions.settle(question)
                return [
                    SettleQuestion(question, f"Approved by {who}: {request.text}"),
                    _received(request, person.user),
                ]
            case "refused":
                self._questions.settle(question)
                return [
                    SettleQuestion(question, f"Refused by {who}: {request.text}"),
                    _refused(request, "refused", person.user),
                ]

    def expire(self, question_id: str) -> list[ChatAction]:
        """Return the actions at the expiry of a question; none if it was settled before."""
        question = self._questions.expire(question_id)
        if question is None:
            return []
        return [
            SettleQuestion(question, f"Expired without a decision: {question.request.text}"),
            _refused(question.request, "expired"),
        ]

    def _hear_answer(
        self, catalog: CommandCatalog, text: str, said: ChatMessage, now: float
    ) -> list[ChatAction]:
        for pattern, is_yes in ((APPROVE, True), (REFUSE, False)):
            arguments = pattern.match(text)
            if arguments is not None:
                asked, name = self._questions.of(said.channel_id, now), arguments["question"]
                meant = [each for each in asked if each.id == name.casefold()] if name else asked
                if len(meant) == 1:
                    return self._judge(meant[0], said.person, is_yes=is_yes)
                return _unmatched(catalog, said, name, asked)
        return []

    def _hear_misfit(
        self, catalog: CommandCatalog, text: str, said: ChatMessage, now: float
    ) -> list[ChatAction]:
        """Reply to an approval with further words, unless it is about something else."""
        if not any(pattern.is_meant(text) for pattern in (APPROVE, REFUSE)):
            return []
        asked = self._questions.of(said.channel_id, now)
        if asked:
            ids = ", ".join(f"`{each.id}`" for each in asked)
            reply = f"Write `approve` or `refuse`, and the id alone. Open here: {ids}."
            return [PostReply(reply, said.channel_id, said.thread)]
        words = (without_punctuation(word.text) for word in islice(split(text[:MAX_TEXT]), 1, 4))
        name = next(filter(self._questions.has_asked, words), "")
        return _unmatched(catalog, said, name, asked) if name else []

    def _hear_command(
        self, catalog: CommandCatalog, text: str, said: ChatMessage, now: float
    ) -> list[ChatAction]:
        for command in catalog.commands:
            arguments = command.pattern.match(text)
            if arguments is not None:
                place = (said.channel_id, said.timestamp, said.thread)
                request = CommandRequest(
                    command, arguments, text, said.person, *place, f"{said.key}.command"
                )
                return self._take(
                    request, command.permission.refusal(said.person, said.channel), now
                )
        return []

    def _take(self, request: CommandRequest, reason: Reason | None, now: float) -> list[ChatAction]:
        confirmation = request.command.confirmation
        if reason is not None:
            return [_reply(request, _refusal(request, reason)), _refused(request, reason)]
        if confirmation is None:
            return [_received(request)]
        question = Question(
            self._questions.free_id(self._new_id()),
            request,
            confirmation,
            now + confirmation.within,
        )
        self._questions.add(question)
        return [PostReply(_asking(question), request.channel_id, request.thread, question)]


def _without_prefix(prefix: str, said: ChatMessage) -> tuple[str, bool]:
    """Return a text without code marks and the prefix, and whether it is for the bot."""
    text = without_code_marks(said.text[:MAX_TEXT]).strip() + said.text[MAX_TEXT:]
    wanted = prefix.split()
    words = list(islice(split(text[:MAX_TEXT]), len(wanted) + 1))
    bare = [word.text for word in words if word.is_code or not word.is_quoted][: len(wanted)]
    if wanted and len(bare) == len(wanted) and all(map(is_same, bare, wanted)):
        return text[words[-1].start :] if len(words) > len(wanted) else "", True
    return text, said.is_addressed


def _hear_help(
    catalog: CommandCatalog, text: str, said: ChatMessage, is_addressed: bool
) -> list[ChatAction]:
    allowed = [
        each
        for each in catalog.commands
        if each.permission.refusal(said.person, said.channel) is None
    ]
    asked = HELP.match(text)
    if asked is not None and not catalog.commands and (is_addressed or said.is_console):
        return [PostReply(NO_COMMANDS, said.channel_id, said.thread)]
    if asked is not None and catalog.commands:
        wanted = (
            [each for each in allowed if each.pattern.begins(asked["command"])]
            if asked["command"]
            else allowed
        )
        lines = [_help(catalog.prefix, command) for command in wanted]
        return [
            PostReply(
                "\n".join(lines) or "No commands are available to you here.",
                said.channel_id,
                said.thread,
            )
        ]
    meant = [each for each in allowed if each.pattern.is_meant(text)]
    if not meant:
        return []
    closer = [each for each in meant if each.pattern.begins(text)]
    lines = [
        "Unknown or incomplete command:",
        *(_help(catalog.prefix, command) for command in closer or meant),
    ]
    return [PostReply("\n".join(lines), said.channel_id, said.thread)]


def _unmatched(
    catalog: CommandCatalog, said: ChatMessage, name: str, asked: Sequence[Question]
) -> list[ChatAction]:
    """Reply to an approval that fits no question, or several, if commands are declared at all."""
    if not asked and not catalog.commands:
        return []
    ids = ", ".join(f"`{each.id}`" for each in asked)
    if name:
        why = "it was answered, it expired, or it was asked elsewhere"
        text = f"There is no open question `{_shown(name)}` in this channel: {why}."
        text += f" Open here: {ids}." if ids else ""
    else:
        text = (
            f"Several questions are open here; give the id: {ids}."
            if ids
            else "No question is open in this channel."
        )
    return [PostReply(text, said.channel_id, said.thread)]


def _shown(name: str) -> str:
    return name.replace("`", "")[:_MAX_ID_LENGTH]


def _help(prefix: str, command: ChatCommand) -> str:
    usage = f"`{prefix} {command.pattern}`" if prefix else f"`{command.pattern}`"
    approval = "" if command.confirmation is None else " (requires approval)"
    return f"{usage}  {command.help}{approval}".rstrip()


def _asking(question: Question) -> str:
    minutes = max(1, round(question.confirmation.within / 60))
    who, text = _name(question.request.person.user), question.request.text
    return (
        f"{who} asks for: {text}\nWithin {minutes} min: `approve {question.id}` or `refuse"
        f" {question.id}`"
    )


def _refusal(request: CommandRequest, reason: Reason) -> str:
    who, what = _name(request.person.user), request.command.name
    if reason == "person":
        return f"{who}, you may not use `{what}`."
    return f"{who}, `{what}` is not for this channel."


def _reply(request: CommandRequest, text: str) -> PostReply:
    return PostReply(text, request.channel_id, request.thread)


def _received(request: CommandRequest, approved_by: User | None = None) -> SendEvent:
    payload = CommandReceived(
        command=request.command.name,
        arguments=request.arguments,
        text=request.text,
        channel_id=request.channel_id,
        user=request.person.user,
        timestamp=request.timestamp,
        thread_timestamp=request.thread,
        approved_by=approved_by,
    )
    return SendEvent(payload, request.key)


def _refused(request: CommandRequest, reason: str, refused_by: User | None = None) -> SendEvent:
    payload = CommandRefused(
        command=request.command.name,
        arguments=request.arguments,
        text=request.text,
        channel_id=request.channel_id,
        user=request.person.user,
        timestamp=request.timestamp,
        thread_timestamp=request.thread,
        reason=reason,
        refused_by=refused_by,
    )
    return SendEvent(payload, request.key)


def _name(user: User) -> str:
    return user.name or user.id
