"""The contents of Matrix events, in the form that the homeserver accepts."""

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import msgspec
from markdown_it import MarkdownIt

MOST_BYTES = 60_000
"""Maximum number of bytes of the content of a message: Matrix accepts 65,536 bytes with all of its
metadata."""

_MAX_MENTIONS = 20
_MENTION = re.compile(r"@[a-z0-9._=/+-]+:[A-Za-z0-9.-]*[A-Za-z0-9](?::\d{1,5})?")
_ROOM = re.compile(r"(?<!\w)@room\b(?!:)")
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)

Content = dict[str, Any]


class MessageText(msgspec.Struct, frozen=True):
    """A text, which may be formatted too; a notice is a bot's text, which other bots do not answer.

    With `mentions_room`, `@room` in it notifies everybody in the room.
    """

    plain: str
    html: str = ""
    is_notice: bool = False
    mentions_room: bool = False


def markdown(source: str) -> MessageText:
    """Return a text as it is, with the HTML of its Markdown; HTML in it stays text."""
    return MessageText(source, _MARKDOWN.render(source).strip())


def message(text: MessageText, *, thread: str = "", reply_to: str = "") -> Content:
    """Return the content of a message: in a thread, as an answer, or both."""
    relation: Content = {"m.in_reply_to": {"event_id": reply_to}} if reply_to else {}
    if thread:
        # A client without threads sees an answer to their first message.
        answered = {"m.in_reply_to": {"event_id": reply_to or thread}}
        relation = {
            "rel_type": "m.thread",
            "event_id": thread,
            "is_falling_back": not reply_to,
        } | answered
    return _fit(text, lambda shown: _body(shown) | ({"m.relates_to": relation} if relation else {}))


def edit(text: MessageText, event_id: str) -> Content:
    """Return the content that replaces a message by a text."""
    relation = {"rel_type": "m.replace", "event_id": event_id}

    def build(shown: MessageText) -> Content:
        content = _body(shown)
        return {
            **content,
            "body": f"* {shown.plain}",
            "m.new_content": content,
            "m.relates_to": relation,
        }

    return _fit(text, build)


def reaction(event_id: str, key: str) -> Content:
    """Return the content of a reaction."""
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": key}}


def _body(text: MessageText) -> Content:
    # Only users mentioned by id are notified: `@room` in the output of a script notifies nobody,
    # unless the flow asks for it.
    mentioned = list(dict.fromkeys(_MENTION.findall(text.plain)))[:_MAX_MENTIONS]
    content: Content = {
        "msgtype": "m.notice" if text.is_notice else "m.text",
        "body": text.plain,
        "m.mentions": {"user_ids": mentioned} if mentioned else {},
    }
    if text.mentions_room and _ROOM.search(text.plain):
        content["m.mentions"]["room"] = True
    if text.html:
        content |= {"format": "org.matrix.custom.html", "formatted_body": text.html}
    return content


def _fit(text: MessageText, build: Callable[[MessageText], Content]) -> Content:
    """Return the content of a text: without its format if too large, then cut if need be."""

    def is_too_large(shown: MessageText) -> bool:
        return len(msgspec.json.encode(build(shown))) > MOST_BYTES

    if not is_too_large(text):
        return build(text)
    bare = msgspec.structs.replace(text, html="")
    if not is_too_large(bare):
        return build(bare)
    lengths = range(1, min(len(text.plain), MOST_BYTES) + 1)
    fitting = bisect_left(lengths, True, key=lambda length: is_too_large(_cut(bare, length)))
    return build(_cut(bare, fitting))


def _cut(text: MessageText, length: int) -> MessageText:
    note = f"\n[cut: the first {length} of {len(text.plain)} characters]"
    return msgspec.structs.replace(text, plain=text.plain[:length] + note)
