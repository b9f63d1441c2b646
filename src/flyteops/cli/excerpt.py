"""Excerpts: the line of a file with a problem, with a caret under the place."""

import re
from collections.abc import Iterator

from flyteops.cli.output import clean
from flyteops.cli.width import display_width
from flyteops.errors import Problem

BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""A line break in YAML."""

WIDTH = 64
"""The number of characters shown of a long line: with its number, they fit 80 columns."""

BEFORE = 40
"""The number of characters shown of a long line before the place."""


class Excerpts:
    """Shows the places of problems in the text of one file."""

    def __init__(self, content: bytes) -> None:
        self._lines = BREAK.split(content.decode("utf-8-sig", "replace"))

    def of(self, problem: Problem) -> Iterator[str]:
        """Yield the line of a problem and the caret under its place.

        Nothing if the place is unknown.
        """
        if problem.line is None or not 0 < problem.line <= len(self._lines):
            return
        line = self._lines[problem.line - 1].replace("\t", " ")
        at = min((problem.column or 1) - 1, len(line))
        begin = max(0, at - BEFORE) if len(line) > WIDTH else 0
        shown, number = clean(line[begin : begin + WIDTH]), str(problem.line)
        offset = display_width(clean(line[begin:at]))
        left, right = "…" * (begin > 0), "…" * (len(line) > begin + WIDTH)
        yield f"{number} | {left}{shown}{right}"
        yield f"{' ' * len(number)} | {' ' * (offset + len(left))}^"
