"""The room on standard input and output, line by line: for pipes and simple terminals."""

import asyncio
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from flyteops.errors import FlyteError, NotFoundError
from flyteops.packs.chat.block import block_lines
from flyteops.packs.chat.room import Message, Room

_CHUNK = 65536

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

HELP = """\
A line is said in the current channel. Otherwise:
  /channel NAME               go to another channel, made if it does not exist
  /thread TIMESTAMP TEXT      answer a message
  /react TIMESTAMP REACTION   react to a message
  /press TIMESTAMP BUTTON     press a button of a message
  /help                       show this"""


class Console:
    """Posts each input line as a message, and shows the messages of flows."""

    def __init__(
        self,
        room: Room,
        *,
        input_fd: int = 0,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self._room = room
        self._input_fd = input_fd
        self._write = write or _write_line
        self._channel = room.channels[0].name
        self._posted = room.posted()

    async def show(self) -> None:
        """Write the messages of flows, for ever."""
        async for message in self._posted:
            for line in plain_lines(message):
                # Keep control sequences from the terminal.
                self._write(_CONTROLS.sub("\ufffd", line))

    async def listen(self) -> None:
        """Post every line until the input ends."""
        async for line in read_lines(self._input_fd):
            try:
                await self._obey(line)
            except FlyteError as error:
                self._write(f"! {error}")

    async def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "":
                return
            case "/help":
                self._write(HELP)
            case "/channel":
                self._channel = self._room.open_channel(rest.strip()).name
            case "/thread":
                timestamp, _, text = rest.strip().partition(" ")
                await self._room.say(text, channel=self._channel, thread=timestamp)
            case "/react":
                timestamp, _, reaction = rest.strip().partition(" ")
                await self._room.react(reaction.strip(), timestamp)
            case "/press":
                timestamp, _, button = rest.strip().partition(" ")
                await self._room.press(button.strip(), timestamp)
            case _ if word.startswith("/"):
                message = f"unknown command {word}; see /help"
                raise NotFoundError(message)
            case _:
                await self._room.say(line, channel=self._channel)


def plain_lines(message: Message) -> Iterator[str]:
    """Return a message as plain text: its place and author, and its content."""
    thread = f" in {message.thread}" if message.thread else ""
    first, *others = text_lines(message)
    edited = " (edited)" if message.is_edited else ""
    yield (
        f"[#{message.channel.name} {message.timestamp}{thread}] {message.user.name}{edited}:"
        f" {first}"
    )
    yield from (f"    {line}" for line in others)
    yield from attached_lines(message)


def text_lines(message: Message) -> list[str]:
    """Return the text of a message: its blocks, or else its text, as Slack does."""
    return [
        _unquoted(line) for line in list(block_lines(message.blocks)) or message.text.split("\n")
    ]


def attached_lines(message: Message) -> Iterator[str]:
    """Return the attachments of a message, which are shown below its text."""
    for attachment in message.attachments:
        yield from (f"  | {_unquoted(line)}" for line in _attachment_lines(attachment))


def _unquoted(text: str) -> str:
    """Return a text as Slack shows it, where `&`, `<` and `>` are escaped."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _attachment_lines(attachment: dict[str, Any]) -> Iterator[str]:
    shown = [
        attachment.get(key) for key in ("pretext", "author_name", "title", "title_link", "text")
    ]
    if not any(shown):
        shown.append(attachment.get("fallback"))
    for text in filter(None, shown):
        yield from str(text).split("\n")
    for field in attachment.get("fields") or []:
        if isinstance(field, dict):
            yield f"{field.get('title', '')}: {field.get('value', '')}"
    for text in filter(None, (attachment.get(key) for key in ("image_url", "thumb_url", "footer"))):
        yield str(text)


async def read_lines(fd: int) -> AsyncIterator[str]:
    """Read lines from a file descriptor of any kind until its end.

    A thread reads, because the event loop can wait neither for files nor for every terminal; it
    uses the descriptor itself, because a thread that waits in `sys.stdin` would hold a lock that
    the interpreter needs to exit.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        while True:
            try:
                chunk = os.read(fd, _CHUNK)
            except OSError:
                chunk = b""
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:  # the loop is closed
                return
            if not chunk:
                return

    threading.Thread(target=read, name="chat-input", daemon=True).start()
    rest = b""
    while chunk := await chunks.get():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
