"""Filters for chat messages: text is shown literally, without any markup meaning."""

import re

from flyteops.template.state import RenderState
from flyteops.template.value import text

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+-.!|~&=:$"})
_INDENTED = re.compile(r"(?:\A|(?<=[\n\r]))[ \t]+")


def quote_slack(value: object, _argument: object, _state: RenderState) -> str:
    """Quote a text for a message in Slack: mentions and links in it are shown literally."""
    return text(value).translate(_SLACK)


def quote_md(value: object, _argument: object, _state: RenderState) -> str:
    """Quote a text for Markdown: formatting in it is shown literally."""
    return _INDENTED.sub(_blanks, text(value)).translate(_MARKDOWN)


def _blanks(found: re.Match[str]) -> str:
    """Return the replacement of a run of blanks.

    Many at the beginning of a line would make it code.
    """
    return " " if found.start() == 0 else ""
