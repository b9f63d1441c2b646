"""A chat room: people post messages, flows answer.

It depends neither on a terminal nor on a server.
"""

import asyncio
import getpass
import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Self
from weakref import WeakSet

import msgspec

from flyteops.errors import NotFoundError
from flyteops.packs.chat.block import Block, Button, find_buttons
from flyteops.packs.chatops.message import Channel
from flyteops.packs.chatops.message import User as ChatUser

_REMEMBERED = 1000

_CHANNEL_ID = re.compile(r"C[0-9A-F]{8}(?:-(?P<tag>[0-9a-f]{4}))?")


class User(ChatUser, frozen=True):
    """A person in the room."""

    @classmethod
    def named(cls, name: str) -> Self:
        """Make a user whose id follows from the name, so that it is the same in every run."""
        return cls(
            id=_stable_id("U", name),
            name=name,
            email=f"{name}@localhost",
            first_name=name.capitalize(),
        )


class Message(msgspec.Struct, frozen=True):
    """A message; `thread` is the timestamp of the message that it answers, or "".

    `attachments` and `blocks` are as a flow gave them; `first_text` is the text before it was
    edited.
    """

    timestamp: str
    channel: Channel
    user: User
    text: str
    thread: str = ""
    attachments: tuple[dict[str, Any], ...] = ()
    first_text: str | None = None
    blocks: tuple[Block, ...] = ()

    @property
    def is_edited(self) -> bool:
        """Whether it had another text before."""
        return self.first_text is not None


class Reaction(msgspec.Struct, frozen=True):
    """A person's reaction to a message, in one word such as `thumbsup`."""

    timestamp: str
    user: User
    name: str
    message: Message


class ButtonPress(msgspec.Struct, frozen=True):
    """A press of a button of a message."""

    timestamp: str
    user: User
    button: Button
    message: Message


Spoken = Message | Reaction | ButtonPress


class PostStream:
    """The messages that flows post after its creation; an asynchronous iterator without end."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self._queue.get()

    def put(self, message: Message) -> None:
        """Add a message."""
        self._queue.put_nowait(message)


class _Outgoing(msgspec.Struct, frozen=True, eq=False):
    spoken: Spoken
    delivered: asyncio.Future[None]


class Room:
    """Keeps channels, people and the last messages, and passes messages between people and flows.

    `now` returns the time. The first channel is the one for messages without a channel.
    """

    def __init__(
        self,
        *,
        user: User | None = None,
        channels: Iterable[str] = ("general",),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.user = user or User.named(_login())
        self.bot = User.named("flyte")
        self._channels = {name: Channel(default_user_id(name), name) for name in channels}
        self._tag = ""
        self._now = now
        self._last_microsecond = 0
        self._messages: deque[Message] = deque(maxlen=_REMEMBERED)
        self._outgoing: asyncio.Queue[_Outgoing] = asyncio.Queue()
        self._listeners: WeakSet[PostStream] = WeakSet()

    @property
    def channels(self) -> list[Channel]:
        """The channels, the default one first."""
        return list(self._channels.values())

    @property
    def messages(self) -> list[Message]:
        """The last messages of people and flows, oldest first."""
        return list(self._messages)

    # ----------------------------------------------------------------------------------- for people

    async def say(
        self, text: str, *, user: User | None = None, channel: str | None = None, thread: str = ""
    ) -> Message:
        """Post a message of a person; return when the server has accepted it.

        It goes to the default channel or the one of that name or id. `thread` is the timestamp of
        the message that is answered.
        """
        place = self.channels[0] if channel is None else self.channel(channel)
        message = Message(self._timestamp(), place, user or self.user, text, thread)
        self._messages.append(message)
        await self._deliver(message)
        return message

    async def react(self, name: str, timestamp: str, *, user: User | None = None) -> Reaction:
        """React to the message with that timestamp; return when the server has accepted it."""
        message = self._message(timestamp)
        reaction = Reaction(self._timestamp(), user or self.user, name.strip(":"), message)
        await self._deliver(reaction)
        return reaction

    async def press(self, name: str, timestamp: str, *, user: User | None = None) -> ButtonPress:
        """Press the button of that label or id on the message with that timestamp.

        Return when the server has accepted it.
        """
        message = self._message(timestamp)
        buttons = find_buttons(message.blocks)
        button = next(
            (
                each
                for each in buttons
                if name.casefold() in (each.label.casefold(), each.action_id.casefold())
            ),
            None,
        )
        if button is None:
            error = (
                f"that message has no button {name!r}; it has:"
                f" {', '.join(each.label for each in buttons) or 'none'}"
            )
            raise NotFoundError(error)
        press = ButtonPress(self._timestamp(), user or self.user, button, message)
        await self._deliver(press)
        return press

    def posted(self) -> PostStream:
        """Return the future posts of flows, to be read with `async for`."""
        posts = PostStream()
        self._listeners.add(posts)
        return posts

    def channel(self, name_or_id: str) -> Channel:
        """Return a channel by its name, with or without `#`, or its id.

        Raise `NotFoundError` if there is none.
        """
        name = name_or_id.removeprefix("#")
        found = self._channels.get(name) or next(
            (each for each in self.channels if each.id == name_or_id), None
        )
        if found is None:
            message = f"there is no channel {name_or_id!r}; there are: {', '.join(self._channels)}"
            raise NotFoundError(message)
        return found

    def open_channel(self, name: str) -> Channel:
        """Return the channel of that name, and create it if it does not exist."""
        name = name.removeprefix("#")
        return self._channels.setdefault(name, Channel(self._id(name), name))

    # ---------------------------------------------------------------- for several rooms of one pack

    def tell_apart(self, tag: str) -> None:
        """Give the channels ids of their own, because another room has the usual ones."""
        self._tag = tag
        self._channels = {name: Channel(self._id(name), name) for name in self._channels}

    def is_elsewhere(self, channel_id: str) -> bool:
        """Return whether an id is that of a channel in another room."""
        found = _CHANNEL_ID.fullmatch(channel_id)
        return found is not None and (found["tag"] or "") != self._tag

    def current(self, spoken: Spoken) -> Spoken:
        """Return the message, reaction or press with the current id of its channel."""
        if not isinstance(spoken, Message):
            message = self.current(spoken.message)
            return msgspec.structs.replace(spoken, message=message)
        return msgspec.structs.replace(
            spoken, channel=self._channels.get(spoken.channel.name, spoken.channel)
        )

    def _id(self, name: str) -> str:
        return f"{default_user_id(name)}-{self._tag}" if self._tag else default_user_id(name)

    # ------------------------------------------------------------------------------------ for flows

    def post(  # noqa: PLR0913 - what a message can have, by keyword
        self,
        text: str,
        *,
        channel: Channel,
        thread: str = "",
        attachments: Iterable[dict[str, Any]] = (),
        blocks: Iterable[Block] = (),
        username: str = "",
    ) -> Message:
        """Post a message of a flow in a channel."""
        author = self.bot if not username else msgspec.structs.replace(self.bot, name=username)
        message = Message(
            self._timestamp(),
            channel,
            author,
            text,
            thread,
            tuple(attachments),
            blocks=tuple(blocks),
        )
        self._messages.append(message)
        self._show(message)
        return message

    def edit(
        self,
        timestamp: str,
        text: str,
        *,
        attachments: Iterable[dict[str, Any]] = (),
        blocks: Iterable[Block] = (),
    ) -> Message:
        """Change a message that a flow posted.

        Raise `NotFoundError` if there is none of that timestamp.
        """
        for place, old in enumerate(self._messages):
            if old.timestamp == timestamp and old.user.id == self.bot.id:
                first_text = old.text if old.first_text is None else old.first_text
                shown = {"attachments": tuple(attachments), "blocks": tuple(blocks)}
                edited = msgspec.structs.replace(old, text=text, first_text=first_text, **shown)
                self._messages[place] = edited
                self._show(edited)
                return edited
        error = f"there is no message {timestamp} of a flow"
        raise NotFoundError(error)

    async def next_spoken(self) -> tuple[Spoken, asyncio.Future[None]]:
        """Wait for the next message, reaction or press of a person.

        Set the future's result on delivery, or its exception on failure.
        """
        outgoing = await self._outgoing.get()
        return outgoing.spoken, outgoing.delivered

    # ------------------------------------------------------------------------------------- plumbing

    def _show(self, message: Message) -> None:
        for listener in list(self._listeners):
            listener.put(message)

    def _message(self, timestamp: str) -> Message:
        message = next(
            (message for message in self._messages if message.timestamp == timestamp), None
        )
        if message is None:
            error = f"there is no message {timestamp}"
            raise NotFoundError(error)
        return message

    async def _deliver(self, spoken: Spoken) -> None:
        delivered = asyncio.get_running_loop().create_future()
        self._outgoing.put_nowait(_Outgoing(spoken, delivered))
        await delivered

    def _timestamp(self) -> str:
        """Return the time as chat timestamps have it; each is later than the one before."""
        microsecond = max(int(self._now().timestamp() * 1_000_000), self._last_microsecond + 1)
        self._last_microsecond = microsecond
        return f"{microsecond // 1_000_000}.{microsecond % 1_000_000:06d}"


def default_user_id(name: str) -> str:
    """Return the id that a channel has unless another room has it."""
    return _stable_id("C", name)


def _stable_id(prefix: str, name: str) -> str:
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:8].upper()


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "user"
