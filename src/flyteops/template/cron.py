"""Cron expressions: minute, hour, day of month, month, day of week and, if given, year.

All fields have to match, including both kinds of day; Sunday is 0 only. Fields are read from left
to right up to the first that does not match, so a fault after it goes unnoticed.
"""

import re
from calendar import monthrange
from datetime import date, datetime

_NAMES = {
    name: str(number)
    for number, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"])
} | {
    name: str(number)
    for number, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_NAME = re.compile("|".join(_NAMES))
TAGS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@always": "* * * * *",
    "@5minutes": "*/5 * * * *",
    "@10minutes": "*/10 * * * *",
    "@15minutes": "*/15 * * * *",
    "@30minutes": "0,30 * * * *",
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_ANY = ("*", "?")
_DAY, _WEEKDAY = 2, 4


class CronError(ValueError):
    """The cron expression is not valid."""


def is_due(expression: str, at: datetime) -> bool:
    """Return whether the expression names the minute of `at`, in the time zone of `at`."""
    expression = expression.strip(" \t")
    expression = TAGS.get(expression.lower(), expression)
    fields = re.sub(r"[\t\n\f\r ]+", " ", expression).upper().split(" ")
    if len(fields) not in (5, 6):
        raise CronError("a cron expression has 5 or 6 fields")
    values = (at.minute, at.hour, at.day, at.month, at.isoweekday() % 7, at.year)
    return all(
        field in _ANY
        or _field_is_due(
            _NAME.sub(lambda name: _NAMES[name[0]], field), position, values[position], at
        )
        for position, field in enumerate(fields)
    )


def _field_is_due(field: str, position: int, value: int, at: datetime) -> bool:
    for item in field.split(","):
        of_days = position in (_DAY, _WEEKDAY)
        try:
            if _item_is_due(item, value):
                return True
        except CronError:
            if not of_days:
                raise
        if of_days and any(mark in item for mark in "LW#"):
            due = _day_is_due(item, at) if position == _DAY else _weekday_is_due(item, at)
            if due:
                return True
    return False


def _item_is_due(item: str, value: int) -> bool:
    if item in _ANY:
        return True
    if "/" in item:
        return _in_step(item, value)
    if "-" in item:
        first, last = item.split("-")[:2]
        return _number(first) <= value <= _number(last)
    if value == 0 or item == "0":
        return item == "0" and value == 0
    return _number(item) == value


def _in_step(item: str, value: int) -> bool:
    span, every = item.split("/")[:2]
    step = _number(every)
    if not step:
        raise CronError("a step of 0")
    if span in ("*", "0"):
        return value % abs(step) == 0
    bounds = span.split("-")
    start = _number(bounds[0])
    end = _number(bounds[1]) if len(bounds) > 1 else value
    return step > 0 and start <= value <= end and (value - start) % step == 0


def _number(string: str) -> int:
    if not _NUMBER.fullmatch(string):
        raise CronError(f"{string!r} is not a number")
    return int(string)


def _last_day(at: datetime) -> int:
    return monthrange(at.year, at.month)[1]


def _day_is_due(item: str, at: datetime) -> bool:
    """Check L, the last day, and 15W, the weekday nearest to the 15th within the month."""
    last = _last_day(at)
    if item == "L":
        return at.day == last
    mark = item.find("W")
    if mark < 1:
        raise CronError(f"{item!r} is not a day of the month")
    wanted = _number(item[:mark])
    for day in (wanted, wanted - 1, wanted + 1, wanted - 2, wanted + 2):
        if 0 < day <= last and date(at.year, at.month, day).isoweekday() < 6:
            return at.day == day
    return False


def _weekday_is_due(item: str, at: datetime) -> bool:
    """Check 5L, the last Friday, and 5#2, the second Friday."""
    weekday = at.isoweekday() % 7
    mark = item.find("L")
    if mark > 0:
        return weekday == _number(item[:mark]) and at.day > _last_day(at) - 7
    parts = item.split("#")
    if len(parts) < 2 or not parts[0]:
        raise CronError(f"{item!r} is not a day of the week")
    day, nth = _number(parts[0]), _number(parts[1])
    return weekday == day and 1 <= nth <= 5 and (at.day - 1) // 7 == nth - 1
