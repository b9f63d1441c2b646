"""Chat: a local stand-in for the Slack pack, to build and try chat flows without any account."""

from flyteops.packs.chat.console import Console, attached_lines, plain_lines, text_lines
from flyteops.packs.chat.pack import create, pack_for
from flyteops.packs.chat.room import ButtonPress, Message, PostStream, Reaction, Room, Spoken, User
from flyteops.packs.chatops.message import Channel

__all__ = [
    "ButtonPress",
    "Channel",
    "Console",
    "Message",
    "PostStream",
    "Reaction",
    "Room",
    "Spoken",
    "User",
    "attached_lines",
    "create",
    "pack_for",
    "plain_lines",
    "text_lines",
]
