"""Due times of schedules: cron expressions in a time zone, and the handling of missed firings.

A rule whose minute and hour begin without ``*`` names fixed times. Such a time is due once, when
the clocks of the zone first show it; one that the clocks skip is due at the end of the gap. All
other rules follow real time: a time that the clocks show twice is due twice, and one that they skip
is left out. That is how Debian's cron does it. `cronsim` reads the expressions and walks the
calendar, on local times without a zone; the zone is applied here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

CATCH_UP = ("all", "last", "skip")
"""The policies for missed firings: all of them one by one, only the last, or none."""

ON_TIME = timedelta(minutes=1)
"""The maximum delay of a firing that does not count as missed."""

MAX_EXPRESSION_LENGTH = 200

TAGS = {
    "@always": "* * * * *",
    "@5minutes": "*/5 * * * *",
    "@10minutes": "*/10 * * * *",
    "@15minutes": "*/15 * * * *",
    "@30minutes": "*/30 * * * *",
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""The names of expressions: those of cron for times, and those of the filter `matchesCron`."""

FIELDS = {
    "minute": ("minute", "minutes are from 0 to 59"),
    "hour": ("hour", "hours are from 0 to 23"),
    "day-of-month": ("day", "days are from 1 to 31, and one of the months must have such a day"),
    "month": ("month", "months are from 1 to 12, or JAN to DEC"),
    "day-of-week": ("weekday", "weekdays are from 0 to 7, or SUN to SAT; 0 and 7 are Sunday"),
}
"""The fields in order, by the names that `cronsim` gives them: our names, and the valid values."""

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
STRIDE = timedelta(hours=1)
"""Less than the time between two changes of a zone's offset."""

MAX_CHANGE = timedelta(hours=48)
"""More than the clocks are set forward or back by any change of a zone's offset."""


class NextRun(NamedTuple):
    """The outcome of a due schedule.

    The time to fire for, if any, and the next due time (None: never again).
    """

    fires_for: datetime | None
    next_at: datetime | None


def get_time_zone(name: str) -> tzinfo:
    """Return a time zone of the IANA database by its name; raise `ValueError`.

    UTC is known without the database.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        near = _near_zone(name)
        hint = (
            f"did you mean {near!r}? Write that"
            if near and near != name
            else "write one such as Europe/Berlin or UTC"
        )
        raise ValueError(
            f"{name[:60]!r} is not a time zone that this computer knows; {hint},"
            " or install newer time zone data (the Python package tzdata)"
        ) from error


def _near_zone(name: str) -> str | None:
    """Return the known zone nearest to a name: of a whole name, or of the city alone."""
    wanted = name[:60].casefold().replace(" ", "_")
    names, cities = _known_zones()
    for word, known in ((wanted, names), (wanted.rpartition("/")[2], cities)):
        if word in known:
            return known[word]
        alike = [each for each in known if each[:1] == word[:1] and abs(len(each) - len(word)) < 3]
        near = get_close_matches(word, alike, n=1, cutoff=0.8) if len(word) > 4 else []
        if near:
            return known[near[0]]
    return None


@cache
def _known_zones() -> tuple[dict[str, str], dict[str, str]]:
    """Return all zones by their names, and by their cities. Reading them is slow."""
    zones = sorted(available_timezones(), key=_is_uncommon, reverse=True)
    return {each.casefold(): each for each in zones}, {
        each.casefold().rpartition("/")[2]: each for each in zones
    }


def _is_uncommon(name: str) -> bool:
    """Return whether a name is a legacy one rather than a continent and a city."""
    return name.partition("/")[0] not in (
        "Africa",
        "America",
        "Asia",
        "Australia",
        "Europe",
        "Pacific",
        "UTC",
    )


def check_cron(expression: str) -> None:
    """Raise `ValueError` unless it is a cron expression that is due on some day."""
    if next_after(expression, "UTC", datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise ValueError(f"the cron expression {expression[:60]!r} is never due")


def next_after(expression: str, time_zone: str, at: datetime) -> datetime | None:
    """Return the first time after `at` that a cron expression names in a time zone.

    None if there is none.
    """
    rule, place = _Rule(expression), get_time_zone(time_zone)
    try:
        return _next_fixed(rule, place, at) if rule.is_fixed else _next_running(rule, place, at)
    except OverflowError:  # beyond the last year that can be written
        return None


def last_until(expression: str, time_zone: str, at: datetime) -> datetime | None:
    """Return the last time up to `at` that a cron expression names."""
    rule, place = _Rule(expression), get_time_zone(time_zone)
    try:
        return _last_fixed(rule, place, at) if rule.is_fixed else _last_running(rule, place, at)
    except OverflowError:
        return None


def next_run(
    expression: str, time_zone: str, catch_up: str, due_at: datetime, now: datetime
) -> NextRun:
    """Return the outcome of a schedule that was due at `due_at`, which is not after `now`."""
    if catch_up == "all":
        return NextRun(due_at, next_after(expression, time_zone, due_at))
    last = last_until(expression, time_zone, now)
    fires_for = due_at if last is None else max(last, due_at)
    is_missed = now - fires_for > ON_TIME
    return NextRun(
        None if is_missed and catch_up == "skip" else fires_for,
        next_after(expression, time_zone, now),
    )


def count_until(
    expression: str, time_zone: str, first: datetime, last: datetime, *, at_most: int
) -> int:
    """Count the times that a cron expression names from `first`, one of them, to `last`."""
    count, at = 1, next_after(expression, time_zone, first)
    while count < at_most and at is not None and at <= last:
        count, at = count + 1, next_after(expression, time_zone, at)
    return count


# -------------------------------------------------------------------------------------- local times


class _Rule:
    """A cron expression as a series of local times, which have no zone."""

    def __init__(self, expression: str) -> None:
        tag = expression.strip().lower()
        fields = TAGS.get(tag, expression).split()
        if tag.startswith("@") and tag not in TAGS:
            near = get_close_matches(tag[:40], TAGS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(TAGS)}"
            raise ValueError(f"the cron expression {expression[:60]!r} is not known; {hint}")
        if len(expression) > MAX_EXPRESSION_LENGTH:
            raise ValueError(
                f"the cron expression is longer than {MAX_EXPRESSION_LENGTH} characters"
            )
        if len(fields) != 5:
            raise ValueError(
                f"the cron expression {expression[:60]!r} has {len(fields)} fields; it needs 5:"
                " minute, hour, day, month, weekday"
            )
        self._expression = expression
        self._fields = " ".join(fields)
        self.is_fixed = not fields[0].startswith("*") and not fields[1].startswith("*")

    def after(self, local: datetime) -> Iterator[datetime]:
        """Yield its times after a local time, earliest first."""
        return self._walk(local, is_back=False)

    def until(self, local: datetime) -> Iterator[datetime]:
        """Yield its times up to a local time, latest first."""
        return self._walk(local.replace(microsecond=0) + SECOND, is_back=True)

    def _walk(self, local: datetime, *, is_back: bool) -> Iterator[datetime]:
        try:
            return CronSim(self._fields, local.replace(microsecond=0), reverse=is_back)
        except CronSimError as error:
            raise ValueError(
                f"the cron expression {self._expression[:60]!r} is not valid:"
                f" {self._about(str(error))}"
            ) from error

    def _about(self, complaint: str) -> str:
        """Return the name of the faulty field, and its valid values."""
        key = complaint.removeprefix("Bad ")
        if key not in FIELDS:
            return complaint
        name, values = FIELDS[key]
        field = self._fields.split()[list(FIELDS).index(key)]
        hint = "; for any, write *" if "?" in field else ""
        hint = "; a step is a number from 1, as in */15" if "/" in field else hint
        return f"the {name} {field[:40]!r} cannot be used; {values}{hint}"


def _offset(place: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(place).utcoffset() or timedelta(0)


def _local(at: datetime, offset: timedelta) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None) + offset


def _at(local: datetime, offset: timedelta) -> datetime:
    return (local - offset).replace(tzinfo=UTC)


# -------------------------------------------------------------------------------------- fixed times


def _shown_first(place: tzinfo, local: datetime) -> datetime:
    """Return the time at which the clocks of a zone first show a local time, or skip it."""
    shown = local.replace(tzinfo=place).astimezone(UTC)
    if shown.astimezone(place).replace(tzinfo=None) == local:
        return shown
    before = local.replace(tzinfo=place, fold=1).astimezone(UTC)
    return _change_between(place, before, shown)


def _next_fixed(rule: _Rule, place: tzinfo, at: datetime) -> datetime | None:
    # In an hour that is repeated, the times that follow on the clock have been due the first time.
    times = (_shown_first(place, local) for local in rule.after(_local(at, _offset(place, at))))
    return next((due_at for due_at in times if due_at > at), None)


def _last_fixed(rule: _Rule, place: tzinfo, at: datetime) -> datetime | None:
    local = at.astimezone(place).replace(tzinfo=None)
    first, again = (
        local.replace(tzinfo=place, fold=fold).utcoffset() or timedelta(0) for fold in (0, 1)
    )
    # In an hour that is repeated, the clocks have shown later times before.
    times = (_shown_first(place, each) for each in rule.until(local + abs(first - again)))
    return next((due_at for due_at in times if due_at <= at), None)


# ---------------------------------------------------------------------- times that follow real time


def _next_running(rule: _Rule, place: tzinfo, at: datetime) -> datetime | None:
    begin, offset = at, _offset(place, at)
    while (local := next(rule.after(_local(begin, offset)), None)) is not None:
        due_at = _at(local, offset)
        until = _reach(begin, due_at)
        change = next(_changes(place, max(at, begin), until), None)
        if change is not None:
            # It may be due at the very moment when the new offset begins.
            at, begin, offset = change, change - MICROSECOND, _offset(place, change)
        elif until == due_at:
            return due_at
        else:
            begin = due_at - MAX_CHANGE
            at, offset = begin, _offset(place, begin)
    return None


def _last_running(rule: _Rule, place: tzinfo, at: datetime) -> datetime | None:
    end = at
    while (local := next(rule.until(_local(end, _offset(place, end))), None)) is not None:
        due_at = _at(local, _offset(place, end))
        since = _reach(end, due_at)
        changes = list(_changes(place, since, end))
        if changes:
            end = changes[-1] - MICROSECOND
        elif since == due_at:
            return due_at
        else:
            end = due_at + MAX_CHANGE
    return None


def _reach(begin: datetime, end: datetime) -> datetime:
    """Return the end of the search for changes of the offset on the way from one time to another.

    A change matters near either of them only: elsewhere the clocks show the times in between,
    regardless of the offset.
    """
    if abs(end - begin) <= 2 * MAX_CHANGE:
        return end
    return begin + MAX_CHANGE if begin < end else begin - MAX_CHANGE


def _changes(place: tzinfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the times after `begin` and up to `end` at which the offset of a zone changes."""
    if place is UTC:
        return
    offset = _offset(place, begin)
    while begin < end:
        until = min(begin + STRIDE, end)
        if _offset(place, until) != offset:
            until = _change_between(place, begin, until)
            yield until
            offset = _offset(place, until)
        begin = until


def _change_between(place: tzinfo, before: datetime, after: datetime) -> datetime:
    """Return the time at which the offset at `before` ends, which is not later than `after`."""
    offset = _offset(place, before)
    while after - before > MICROSECOND:
        middle = before + (after - before) // 2
        if _offset(place, middle) == offset:
            before = middle
        else:
            after = middle
    return after
