"""Filters of times and durations."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from flyteops.errors import TemplateRenderError
from flyteops.template.cron import CronError, is_due
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.layout import (
    EPOCH,
    LayoutError,
    check_printing,
    check_reading,
    offset_zone,
    print_time,
    read_time,
)
from flyteops.template.typed.filter.operand import is_number, need_text, unfit
from flyteops.template.typed.value import TEXT, TIME, Value, kind_of
from flyteops.timeformat import RFC_3339, parse_duration

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_OFFSET = re.compile(r"[+-]\d\d:?\d\d", re.ASCII)
_OF_THE_MACHINE = frozenset(["localtime", "posixrules"])
_TIME = "a time, a text such as '2026-03-01T12:30:00Z' or a number of seconds since 1970"
_EXAMPLE = "a layout such as '%Y-%m-%d %H:%M' as its argument"
_LONGEST_LAYOUT = 1_000


def date(value: Value, layout: Value, zone: Value = None, *, env: Environment) -> str | None:
    """Print a time in a layout of strftime, in its own time zone or in another."""
    form = _layout("date", layout, check_printing)
    env.spend(1 + len(form))
    there = None if zone is None else _zone("date", zone)
    if value is None:
        return None
    at = _time("date", value)
    try:
        string = print_time(at if there is None else at.astimezone(there), form)
    except OverflowError:
        raise unfit("date", "a time from the year 1 to 9999", value) from None
    return env.check_text(string)


def parse_date(
    value: Value, layout: Value = None, zone: Value = None, *, env: Environment
) -> datetime | None:
    """Read a text as a time: in the form of RFC 3339, or in a layout of strptime.

    The zone, UTC unless given, is the one of texts without an offset. A number is seconds since
    1970.
    """
    there = UTC if zone is None else _zone("parse_date", zone)
    form = None if layout is None else _layout("parse_date", layout, check_reading)
    if value is None:
        return None
    if form is None or kind_of(value) != TEXT:
        return _time("parse_date", value)
    env.spend(1 + len(form))
    try:
        return _within_years(read_time(value, form, there))
    except (LayoutError, OverflowError) as error:
        raise TemplateRenderError(
            f"`parse_date` cannot read {value[:40]!r} as {form[:40]!r}: it found {error}"
        ) from None


def duration(value: Value, *, env: Environment) -> int | float | None:
    """Read a duration such as ``1h30m`` as a number of seconds; a number stays one."""
    if value is None or is_number(value):
        return value  # type: ignore[no-any-return]
    string = need_text("duration", value, "a text such as '1h30m', or a number of seconds")
    try:
        seconds = parse_duration(string).total_seconds()
    except ValueError as error:
        raise TemplateRenderError(f"`duration` got a wrong text: {error}") from None
    return int(seconds) if seconds.is_integer() else seconds


def matches_cron(value: Value, expression: Value, *, env: Environment) -> bool:
    """Return whether a cron expression names the minute of a time, in its time zone."""
    source = need_text("matchesCron", expression, "a cron expression in a text as its argument")
    if len(source) > env.limits.regexp_length:
        raise unfit("matchesCron", f"at most {env.limits.regexp_length} characters", source)
    env.spend(1 + len(source))
    if value is None:
        return False
    try:
        return is_due(source, _time("matchesCron", value))
    except CronError as error:
        raise TemplateRenderError(
            f"`matchesCron` got {source[:40]!r}, which is not a cron expression: {error}"
        ) from None


def _layout(name: str, layout: Value, check: Callable[[str], None]) -> str:
    form = need_text(name, layout, _EXAMPLE)
    if len(form) > _LONGEST_LAYOUT:
        raise unfit(name, f"a layout of at most {_LONGEST_LAYOUT} characters", layout)
    try:
        check(form)
    except LayoutError as error:
        raise TemplateRenderError(f"`{name}` got {error}") from None
    return form


def _time(name: str, value: Value) -> datetime:
    if kind_of(value) == TIME:
        return value  # type: ignore[no-any-return]
    try:
        if is_number(value):
            return EPOCH + timedelta(seconds=value)
        if kind_of(value) == TEXT and RFC_3339.fullmatch(value):
            return _within_years(datetime.fromisoformat(value))
    except (ValueError, OverflowError, LayoutError):
        pass
    raise unfit(name, _TIME, value)


def _within_years(time: datetime) -> datetime:
    """Return a time that has a date in UTC as well; its offset may move it out of the calendar."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        raise LayoutError("a time that is before year 1 or after year 9999 in UTC") from None
    return time


def _zone(name: str, zone: Value) -> tzinfo:
    text = need_text(name, zone, "a time zone such as 'Europe/Berlin'")
    if text in ("UTC", "Z"):
        return UTC
    try:
        if _OFFSET.fullmatch(text):
            return offset_zone(text)
        if _ZONE.fullmatch(text) and text not in _OF_THE_MACHINE:
            return ZoneInfo(text)
    except (LayoutError, KeyError, ValueError, OSError):
        pass
    raise TemplateRenderError(
        f"`{name}` got {text[:60]!r}, which is not a time zone that this computer knows; write one"
        " such as Europe/Berlin, UTC or +02:00"
    )
