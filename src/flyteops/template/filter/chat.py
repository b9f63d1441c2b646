"""Texts for messages in chats: what stands in them is shown and has no meaning."""

import re
from typing import Any

from flyteops.template.state import State
from flyteops.template.value import text

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&=:$])")
_INDENTED = re.compile(r"(?:\A|(?<=[\n\r]))[ \t]+")


def quote_slack(value: Any, _argument: Any, _state: State) -> str:
    """Quote a text for a message in Slack: mentions and links in it are shown as they are written."""
    return text(value).translate(_SLACK)


def quote_md(value: Any, _argument: Any, _state: State) -> str:
    """Quote a text for Markdown: what would be formatting in it is shown as it is written."""
    return _MARKDOWN.sub(r"\\\1", _INDENTED.sub(_blanks, text(value)))


def _blanks(found: re.Match[str]) -> str:
    """Return what may stand where blanks were: many at the beginning of a line would make it code."""
    return " " if found.start() == 0 else ""
