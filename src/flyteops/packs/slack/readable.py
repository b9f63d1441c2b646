"""The text of a message from all its parts; alerts often have only attachments or blocks."""

from collections.abc import Iterable, Iterator
from typing import Any

_DEEPEST = 20
_MAX_LINES = 500
_NO_FALLBACK = "[no preview available]"
_MARKS = {
    "user": ("<@", "user_id", ">"),
    "channel": ("<#", "channel_id", ">"),
    "usergroup": ("<!subteam^", "usergroup_id", ">"),
}


def readable(message: dict[str, Any], *, whole: bool = False) -> str:
    """Return the text of a message.

    If it has none, or for the `whole` message, also that of its other parts.
    """
    text = _text(message.get("text"))
    if text.strip() and not whole:
        return text
    shown = [text] if text.strip() else list(_block_lines(message.get("blocks"), _DEEPEST))
    for attachment in objects(message.get("attachments")):
        shown += _attachment_lines(attachment, shown)
    shown += (_file_line(file) for file in objects(message.get("files")))
    lines = [line for line in shown if line.strip()][:_MAX_LINES]
    return "\n".join(lines) if lines else text


def _attachment_lines(attachment: dict[str, Any], before: Iterable[str]) -> list[str]:
    """Return the lines of an attachment; its fallback text only if that contains more."""
    shown = [_text(attachment.get(key)) for key in ("pretext", "author_name")]
    shown.append(_linked(attachment.get("title"), attachment.get("title_link")))
    shown += [_text(attachment.get("text"))]
    shown += (
        f"{_text(field.get('title'))}: {_text(field.get('value'))}"
        for field in objects(attachment.get("fields"))
    )
    shown += _block_lines(attachment.get("blocks"), _DEEPEST)
    for inner in objects(attachment.get("message_blocks")):
        shown += _block_lines(_object(inner.get("message")).get("blocks"), _DEEPEST)
    shown = [line for line in shown if line.strip()]
    fallback = _text(attachment.get("fallback"))
    if (
        fallback.strip()
        and fallback != _NO_FALLBACK
        and fallback not in "\n".join([*before, *shown])
    ):
        has_title = any(_text(attachment.get(key)) for key in ("pretext", "title"))
        shown = (
            shown if has_title else [fallback, *(line for line in shown if line not in fallback)]
        )
    return shown or [_text(attachment.get("image_url"))]


def _block_lines(value: object, deepest: int) -> Iterator[str]:
    for block in objects(value):
        match block.get("type"):
            case "rich_text":
                yield from _rich_lines(block.get("elements"), deepest)
            case "context":
                elements = (_label(element) for element in objects(block.get("elements")))
                yield " ".join(filter(None, elements))
            case "actions" | "divider" | "input":
                continue
            case _:
                yield _label(block)
                yield from (_label(field) for field in objects(block.get("fields")))


def _label(element: dict[str, Any]) -> str:
    """Return the text of a block or an element, or the text for its picture."""
    for key in ("text", "title", "alt_text"):
        value = element.get(key)
        text = _text(value.get("text")) if isinstance(value, dict) else _text(value)
        if text:
            return text
    return ""


def _rich_lines(value: object, deepest: int) -> Iterator[str]:
    """Return the lines of rich text: each section has some, and each entry of a list."""
    for element in objects(value):
        inner = objects(element.get("elements"))
        if element.get("type") == "rich_text_list" and deepest:
            yield from (f"• {line}" for line in _rich_lines(inner, deepest - 1))
        else:
            yield from "".join(map(_rich_text, inner)).split("\n")


def _rich_text(element: dict[str, Any]) -> str:
    match element.get("type"):
        case "link":
            return _linked(element.get("text"), element.get("url")) or _text(element.get("url"))
        case "emoji":
            return f":{_text(element.get('name'))}:"
        case "broadcast":
            return f"<!{_text(element.get('range'))}>"
        case "user" | "channel" | "usergroup" as kind:
            begin, key, end = _MARKS[kind]
            return f"{begin}{_text(element.get(key))}{end}"
    return _text(element.get("text"))


def _file_line(file: dict[str, Any]) -> str:
    address = file.get("permalink") or file.get("url_private") or file.get("external_url")
    return _linked(file.get("title") or file.get("name"), address) or _text(address)


def _linked(text: object, address: object) -> str:
    shown, target = _text(text), _text(address)
    return f"{shown} <{target}>" if shown and target else shown


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; none for other types."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
