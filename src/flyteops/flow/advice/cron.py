"""Advice about cron expressions: misleading steps, and where schedules and `matchesCron` differ."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import NamedTuple

from flyteops.document import Document, Path
from flyteops.errors import Problem
from flyteops.flow import schedule
from flyteops.model import Flow
from flyteops.template.cron import TAGS

_ANY = ("*", "?")
_DAY = 2
_STEP = re.compile(r"(\*|[0-9]{1,3}|[0-9]{1,3}-[0-9]{1,3})/([0-9]{1,100})")
_NUMBERS = re.compile(r"[0-9]+")
_SHOWN = 60
"""The number of characters of an expression or field that a message shows."""

_LITERAL = re.compile(r"""\|\s*matchesCron\s*:\s*(?:"([^"\\]*)"|'([^'\\]*)')""")


class _Unit(NamedTuple):
    """A field of a cron expression: the name of one value, its range, and its unit."""

    name: str
    first: int
    last: int
    whole: str

    @property
    def size(self) -> int:
        return self.last - self.first + 1


_UNITS = (
    _Unit("minute", 0, 59, "hour"),
    _Unit("hour", 0, 23, "day"),
    _Unit("day", 1, 31, "month"),
    _Unit("month", 1, 12, "year"),
    _Unit("weekday", 0, 6, "week"),
)
_EVEN = ("minute", "hour", "month")
"""The fields whose next larger unit always has the same length, so that a step can divide it
evenly.
"""


def cron_advice(
    document: Document, flow: Flow, templates: Iterable[tuple[Path, str]]
) -> Iterator[Problem]:
    """Give advice about the schedules of a flow, and the cron expressions in its templates."""
    for index, step in enumerate(flow.steps):
        if step.schedule is not None:
            for message in _about_schedule(step.schedule.cron):
                yield document.problem(("steps", index, "schedule", "cron"), message)
    for path, source in templates:
        for found in _LITERAL.finditer(source):
            for message in _about_filter(found[1] if found[2] is None else found[2]):
                yield document.problem(path, message)


def _about_schedule(expression: str) -> Iterator[str]:
    fields = schedule.TAGS.get(expression.strip().lower(), expression).upper().split()
    yield from _about_steps(fields)
    if len(fields) == 5 and not fields[2].startswith("*") and not fields[4].startswith("*"):
        yield (
            f"{expression[:_SHOWN]!r} is due on every day that matches the day"
            f" {fields[2][:_SHOWN]!r} or the weekday {fields[4][:_SHOWN]!r}; for days that match"
            " both, write * for the day and check it in the criteria with matchesCron, which"
            " requires both"
        )


def _about_filter(expression: str) -> Iterator[str]:
    tag = expression.strip(" \t").lower()
    if tag.startswith("@") and tag not in TAGS:
        instead = schedule.TAGS.get(tag, "")
        hint = f"; write {instead!r}" if instead else _nearest(tag)
        yield f"matchesCron does not know {expression[:_SHOWN]!r} and fails{hint}"
    fields = TAGS.get(tag, expression).upper().split()
    yield from _about_steps(fields[:5])
    if not tag.startswith("@") and len(tag) <= schedule.MAX_EXPRESSION_LENGTH:
        yield from _about_values(fields)
    if len(fields) not in (5, 6):
        return
    if any(_names_seven(item) for item in fields[4].split(",")):
        yield (
            f"the weekday {fields[4][:_SHOWN]!r} leaves out Sunday: matchesCron knows it as 0 only"
            " (a schedule as 0 and 7)"
        )
    if (
        fields[2] not in _ANY
        and fields[4] not in _ANY
        and not _starts_with_star(fields[2], fields[4])
    ):
        yield (
            f"matchesCron requires both the day {fields[2][:_SHOWN]!r} and the weekday"
            f" {fields[4][:_SHOWN]!r}; a schedule with the same expression is due when either of"
            " them matches"
        )


def _about_values(fields: list[str]) -> Iterator[str]:
    """Give advice about fields that the filter cannot read, and values that no time has."""
    common = ["*" if field == "?" else field for field in fields]
    if len(fields) == 6:
        common.pop()  # the year
    if len(common) == 5 and "W" in common[_DAY]:
        common[_DAY] = "*"
    try:
        schedule.check_cron(" ".join(common))
    except ValueError as error:
        yield f"matchesCron fails, or a part of the expression never matches: {error}"


def _nearest(tag: str) -> str:
    near = get_close_matches(tag[:40], TAGS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _starts_with_star(*fields: str) -> bool:
    return any(field.startswith("*") for field in fields)


def _names_seven(item: str) -> bool:
    numbers = _NUMBERS.findall(item.partition("/")[0].partition("#")[0])
    return bool(numbers) and numbers[-1] == "7" and numbers[0] != "0"


def _about_steps(fields: Iterable[str]) -> Iterator[str]:
    for unit, field in zip(_UNITS, fields, strict=False):
        for item in dict.fromkeys(field.split(",")):
            step = _STEP.fullmatch(item)
            if step is not None:
                yield from _about_step(unit, item, step[1], int(step[2]))


def _about_step(unit: _Unit, item: str, span: str, step: int) -> Iterator[str]:
    first, last = _bounds(unit, span)
    if not step or not unit.first <= first <= last:
        return
    values = range(first, last + 1, step)
    if len(values) == 1 and step != unit.size:
        yield (
            f"{item!r} is not every {step} {unit.name}s: a step counts within one {unit.whole}, so"
            f" this is {unit.name} {first} of every {unit.whole}; for longer intervals, name the"
            " times in several scheduled steps"
        )
    elif (
        unit.name in _EVEN
        and len(values) > 1
        and (first, last) == (unit.first, unit.last)
        and unit.size % step
    ):
        rest = unit.size - (values[-1] - first)
        yield (
            f"{item!r} is not always every {step} {unit.name}s: a step counts within one"
            f" {unit.whole}, so the last time of each {unit.whole} ({unit.name} {values[-1]}) is"
            f" followed by the next one after {rest}"
        )


def _bounds(unit: _Unit, span: str) -> tuple[int, int]:
    if span == "*":
        return unit.first, unit.last
    first, _, last = span.partition("-")
    return int(first), min(int(last), unit.last) if last else unit.last
