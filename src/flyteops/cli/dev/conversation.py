"""A chat in a room: the lines that a person types, and the display of messages."""

import asyncio
from collections.abc import Callable, Iterator

from flyteops.cli.output import clean
from flyteops.errors import FlyteError, NotFoundError
from flyteops.packs.chat import Message, Room, Spoken, User, attached_lines, text_lines

Write = Callable[[str], None]

HELP = """\
What you type is said in the channel that the prompt shows. Otherwise:
  /channel NAME       go to another channel
  /thread N [TEXT]    answer message number N; without TEXT all that follows goes there
  /thread             leave the thread
  /react N NAME       react to message number N, as in: /react 1 thumbsup
  /press N BUTTON     press a button of message number N
  /me NAME            speak as somebody else
  /help               show this
  /quit               leave, as does Ctrl-D"""


class Conversation:
    """A person's end of a room.

    Messages get numbers to refer to; `echo` shows the person's own, too.
    """

    def __init__(self, room: Room, write: Write, *, echo: bool) -> None:
        self.room = room
        self.echo = echo
        self.channel = room.channels[0].name
        self.thread = ""
        self.is_over = False
        self.said: list[Spoken] = []
        self._write = write
        self._numbers: dict[str, int] = {}

    @property
    def place(self) -> str:
        """The destination of the next message."""
        thread = f" ↳{self._numbers.get(self.thread, self.thread)}" if self.thread else ""
        return f"#{self.channel}{thread}"

    def number(self, message: Message) -> int:
        """Return the number of a message, the same each time."""
        return self._numbers.setdefault(message.timestamp, len(self._numbers) + 1)

    async def obey(self, line: str) -> None:
        """Execute a line; return when the server has received its message."""
        word, _, rest = line.strip().partition(" ")
        try:
            if word.startswith("/"):
                await self._command(word, rest.strip())
            elif word:
                await self._say(line.rstrip("\n"), self.thread)
        except FlyteError as error:
            self._write(f"! {clean(str(error))}")

    async def _command(self, word: str, rest: str) -> None:
        match word:
            case "/help":
                self._write(HELP)
            case "/quit":
                self.is_over = True
            case "/channel" if rest:
                self.channel, self.thread = self.room.open_channel(rest).name, ""
            case "/me" if rest:
                self.room.user = User.named(rest)
            case "/react" if " " in rest:
                which, _, reaction = rest.partition(" ")
                self.said.append(await self.room.react(reaction.strip(), self._timestamp(which)))
            case "/press" if " " in rest:
                which, _, button = rest.partition(" ")
                self.said.append(await self.room.press(button.strip(), self._timestamp(which)))
            case "/thread":
                which, _, text = rest.partition(" ")
                thread = self._timestamp(which) if which else ""
                if text:
                    await self._say(text, thread)
                else:
                    self.thread = thread
            case "/channel" | "/me" | "/react" | "/press":
                raise NotFoundError(f"{word} needs an argument; see /help")
            case _:
                raise NotFoundError(f"unknown command {word}; see /help")

    async def _say(self, text: str, thread: str) -> None:
        saying = asyncio.ensure_future(self.room.say(text, channel=self.channel, thread=thread))
        # After one turn of the loop the room has the message; the server may take longer.
        await asyncio.sleep(0)
        if self.echo:
            self.show(self.room.messages[-1])
        self.said.append(await saying)

    def _timestamp(self, which: str) -> str:
        by_number = {str(number): timestamp for timestamp, number in self._numbers.items()}
        known = {message.timestamp for message in self.room.messages}
        timestamp = by_number.get(which.removeprefix("#"), which)
        if timestamp not in known:
            raise NotFoundError(
                f"there is no message {which!r}; use the number in front of a message"
            )
        return timestamp

    def show(self, message: Message) -> None:
        """Write a message."""
        for line in self.lines(message):
            self._write(line)

    def lines(self, message: Message) -> Iterator[str]:
        """Yield the lines of a message: its number, author and thread, and its text."""
        number = self.number(message)
        channel = f"#{message.channel.name} " if message.channel.name != self.channel else ""
        thread = (
            f"↳{self._numbers.get(message.thread, '?')} "
            if message.thread and message.thread != message.timestamp
            else ""
        )
        edited = " (edited)" if message.is_edited else ""
        head = (
            f"{number:>3} {'    ' if thread else ''}{channel}{thread}{message.user.name}{edited}: "
        )
        text = "\n".join(text_lines(message)).rstrip("\n")
        first, *others = clean("\n".join([text, *attached_lines(message)])).split("\n")
        yield clean(head) + first
        yield from (" " * len(head) + line for line in others)
