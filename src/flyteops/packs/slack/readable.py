"""The text of a message from all its parts; alerts often have only attachments or blocks."""

from collections.abc import Iterable, Iterator
from typing import Any

_DEEPEST = 20
_MAX_LINES = 500
_ADDRESSES = ("image_url", "video_url", "external_id")
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
    shown = [text] if text.strip() else []
    shown += _further_lines(message.get("blocks"), text)
    for attachment in objects(message.get("attachments")):
        shown += _attachment_lines(attachment, shown)
    shown += (_file_line(file) for file in objects(message.get("files")))
    lines = [line for line in shown if line.strip()][:_MAX_LINES]
    return "\n".join(lines) if lines else text


def _further_lines(blocks: object, text: str) -> list[str]:
    """Return the lines of blocks, without those that a text has.

    Slack makes the text of rich text itself, in another form.
    """
    if not text.strip():
        return list(_block_lines(blocks, _DEEPEST))
    others = [each for each in objects(blocks) if each.get("type") != "rich_text"]
    return [line for line in _block_lines(others, _DEEPEST) if line not in text]


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
    shown += map(_button, objects(attachment.get("actions")))
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
    rest = (_text(attachment.get(key)) for key in ("image_url", "thumb_url", "footer"))
    return shown or [next(filter(None, rest), "")]


def _block_lines(value: object, deepest: int) -> Iterator[str]:
    for block in objects(value):
        match block.get("type"):
            case "rich_text":
                yield from _rich_lines(block.get("elements"), deepest)
            case "context":
                elements = (_label(element) for element in objects(block.get("elements")))
                yield " ".join(filter(None, elements))
            case "table":
                yield from _table_lines(block.get("rows"), deepest)
            case "divider" | "input":
                continue
            case "actions":
                yield " ".join(filter(None, map(_button, objects(block.get("elements")))))
            case _:
                yield _label(block)
                yield from (_label(field) for field in objects(block.get("fields")))


def _table_lines(rows: object, deepest: int) -> Iterator[str]:
    """Return a line for each row of a table."""
    for row in rows if isinstance(rows, list) else ():
        yield " | ".join(" ".join(_block_lines([cell], deepest)) for cell in objects(row))


def _label(element: dict[str, Any]) -> str:
    """Return the text of a block or an element, or the text for its picture, or its address."""
    for key in ("text", "title", "alt_text", *_ADDRESSES):
        value = element.get(key)
        text = _text(value.get("text")) if isinstance(value, dict) else _text(value)
        if text:
            return text
    return ""


def _button(element: dict[str, Any]) -> str:
    """Return the text and the address of a button that leads somewhere."""
    address = _text(element.get("url"))
    return f"{_label(element)} <{address}>".strip() if address else ""


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
    return _text(element.get("text")) or _text(element.get("fallback"))


def _file_line(file: dict[str, Any]) -> str:
    address = file.get("permalink") or file.get("url_private") or file.get("external_url")
    name = file.get("title") or file.get("name") or (not address and file.get("id"))
    return _linked(name, address) or _text(address)


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
