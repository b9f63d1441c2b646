"""Slack's message blocks as plain text, as far as they can be shown, and their buttons."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

Block = dict[str, Any]


class Button(msgspec.Struct, frozen=True):
    """A button, with the ids and the value that a flow gave it."""

    label: str
    action_id: str
    block_id: str
    value: str


def block_lines(blocks: Sequence[Block]) -> Iterator[str]:
    """Return the lines of blocks as text; a button is its label in brackets."""
    for block in blocks:
        texts = [block.get("text"), *_list(block.get("fields")), *_list(block.get("elements"))]
        shown = [text for text in (_text(each) for each in texts if not _is_button(each)) if text]
        if block.get("type") == "divider":
            shown.append("---")
        elif block.get("type") == "image":
            shown.append(str(block.get("alt_text") or block.get("image_url") or ""))
        yield from "\n".join(shown).split("\n") if shown else ()
        if labels := [f"[{button.label}]" for button in _buttons(block)]:
            yield " ".join(labels)


def find_buttons(blocks: Sequence[Block]) -> list[Button]:
    """Return the buttons of blocks, in order."""
    return [button for block in blocks for button in _buttons(block)]


def _buttons(block: Block) -> Iterator[Button]:
    for element in [*_list(block.get("elements")), block.get("accessory")]:
        if _is_button(element):
            ids = (element.get("action_id"), block.get("block_id"), element.get("value"))
            yield Button(_text(element.get("text")), *(str(each or "") for each in ids))


def _is_button(element: object) -> bool:
    return isinstance(element, dict) and element.get("type") == "button"


def _text(value: object) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
