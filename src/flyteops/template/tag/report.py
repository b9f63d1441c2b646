"""Errors as text, in the exact words that macros print in the original engine."""

import re

from flyteops.errors import TemplateRenderError

_TOKEN = re.compile(
    r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[0-9]*[A-Za-z_][A-Za-z0-9_]*|[0-9]+|==|>=|<=|&&|\|\||"
    r"!=|<>|.",
    re.DOTALL,
)
_FILTER = re.compile(r"\|[ \t\r]*$")
_SENDERS = {"time": "filter:date", "matchesCron": None}
_SHIFT = 20
"""Flows were wrapped in `{% autoescape off %}` previously: it shifts the first line's columns."""


def report(error: TemplateRenderError, source: str) -> str:
    """Return the text that a macro prints in place of its body."""
    line, column = error.line or 1, error.column or 1
    text = source.split("\n")[line - 1]
    token = _TOKEN.match(text, column - 1)
    near = _bare(token[0]) if token else ""
    if _FILTER.search(text[: column - 1]):
        sender = _SENDERS.get(near, f"filter:{near}")
        where = f" (where: {sender})" if sender else ""
    else:
        where = " (where: execution) in <string>"
    shown = column + _SHIFT if line == 1 else column
    return f"[Error{where} | Line {line} Col {shown} near '{near}'] {error.message}"


def _bare(token: str) -> str:
    """Return a text without its quotes and escapes, any other token unchanged."""
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token[0] in "\"'" and len(token) > 1 else token
