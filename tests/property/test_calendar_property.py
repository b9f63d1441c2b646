"""When schedules are due, in any time zone, compared with a slow walk over all minutes."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteops.flow.schedule import last_until, next_after

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

ODD = {
    "Africa/Cairo": "2023-04-28",  # at midnight
    "Africa/Casablanca": "2026-02-15",  # back to winter time for Ramadan
    "America/Asuncion": "2024-03-24",
    "America/Nuuk": "2023-03-26",
    "America/St_Johns": "2010-11-07",  # one minute after midnight
    "Antarctica/Troll": "2026-10-25",  # two hours at once
    "Asia/Beirut": "2024-03-31",
    "Asia/Kathmandu": "1986-01-01",  # a quarter of an hour
    "Asia/Pyongyang": "2018-05-05",
    "Australia/Lord_Howe": "2026-04-05",  # half an hour
    "Europe/Berlin": "2026-10-25",
    "Europe/Dublin": "2026-03-29",
    "Pacific/Apia": "2011-12-30",  # a day left out
    "Pacific/Kwajalein": "1969-09-30",  # a day twice
}
ZONES = sorted(available_timezones() - {"localtime", "Factory"})


def parts(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    return st.one_of(
        number.map(str),
        ranges,
        st.lists(number, min_size=2, max_size=4).map(lambda each: ",".join(map(str, each))),
    )


def stars(most: int) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.integers(1, most).map(lambda step: f"*/{step}"))


days = st.sampled_from(
    ["* * *", "* * *", "* * 1-5", "1,15 * *", "*/2 * *", "L * *", "* 3,10 0", "30,31 * *"]
)
fixed = st.builds(
    lambda minute, hour, day: f"{minute} {hour} {day}", parts(0, 59), parts(0, 23), days
)
running = st.builds(
    lambda minute, hour, day: f"{minute} {hour} {day}",
    stars(40),
    st.one_of(stars(12), parts(0, 23)),
    days,
) | st.builds(lambda minute, hour, day: f"{minute} {hour} {day}", parts(0, 59), stars(12), days)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and a moment, half of the time near a change of its clocks."""
    away = timedelta(microseconds=draw(st.integers(-3 * 86_400_000_000, 3 * 86_400_000_000)))
    if draw(st.booleans()):
        away -= timedelta(microseconds=away.microseconds)
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(ODD)))
        return name, datetime.fromisoformat(f"{ODD[name]}T12:00:00+00:00") + away
    name = draw(st.sampled_from(ZONES))
    year, day = draw(st.integers(1975, 2060)), draw(st.integers(0, 364))
    return name, datetime(year, 1, 1, tzinfo=UTC) + day * DAY + away


def walk(expression: str, name: str, begin: datetime, end: datetime) -> list[datetime]:
    """Return when a rule is due after `begin` and before `end`, by looking at the clocks each
    minute.
    """
    zone = ZoneInfo(name)
    minute, hour, *_ = expression.split()
    is_fixed = not minute.startswith("*") and not hour.startswith("*")
    matches = _matcher(expression)
    due = []
    at = _floor(begin)
    # In an hour that comes again at the beginning, the clocks have shown more than they show.
    latest = max((at - n * 30 * MINUTE).astimezone(zone).replace(tzinfo=None) for n in range(49))
    while (at := at + MINUTE) < end:
        local = at.astimezone(zone).replace(tzinfo=None)
        if not is_fixed:
            if matches(local):
                due.append(at)
            continue
        while latest < local:
            latest += MINUTE
            if matches(latest) and due[-1:] != [at]:
                due.append(at)
    return due


def _floor(local: datetime) -> datetime:
    return local.replace(second=0, microsecond=0)


def _matcher(expression: str):
    rule = CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a local time

    @cache
    def is_day(date) -> bool:
        return date.month in rule.months and rule.match_day(date)

    return lambda local: (
        local.minute in rule.minutes and local.hour in rule.hours and is_day(local.date())
    )


@settings(deadline=None, max_examples=15)
@given(moment=moments(), expression=fixed | running)
def test_the_next_and_the_last_time_are_those_that_a_walk_over_all_minutes_finds(
    moment: tuple[str, datetime], expression: str
) -> None:
    name, at = moment
    begin, end = at - 1.2 * DAY, at + 1.2 * DAY
    due = walk(expression, name, begin, end)
    later, until = [each for each in due if each > at], [each for each in due if each <= at]
    found, last = next_after(expression, name, at), last_until(expression, name, at)
    assert found is None or found > at
    assert last is None or last <= at
    assert (found if found is not None and found < end else None) == (later[0] if later else None)
    assert (last if last is not None and last > begin else None) == (until[-1] if until else None)


@settings(deadline=None, max_examples=25)
@given(moment=moments(), expression=fixed | running)
def test_times_go_on_and_none_is_passed_over_on_the_way_back(
    moment: tuple[str, datetime], expression: str
) -> None:
    name, at = moment
    times = [at]
    for _ in range(5):
        found = next_after(expression, name, times[-1])
        if found is None:
            break
        times.append(found)
    assert all(earlier < later for earlier, later in pairwise(times))
    for earlier, later in pairwise(times[1:]):
        assert last_until(expression, name, later) == later
        assert last_until(expression, name, later - timedelta(microseconds=1)) == earlier


@settings(deadline=None, max_examples=25)
@given(moment=moments(), minute=st.integers(0, 59), hour=st.integers(0, 23))
def test_a_fixed_time_is_due_at_most_once_while_the_clocks_show_it_twice(
    moment: tuple[str, datetime], minute: int, hour: int
) -> None:
    name, at = moment
    due_at = next_after(f"{minute} {hour} * * *", name, at)
    assert due_at is not None
    again = next_after(f"{minute} {hour} * * *", name, due_at)
    assert again is not None
    zone = ZoneInfo(name)
    shown = [each.astimezone(zone).replace(tzinfo=None) for each in (due_at, again)]
    assert shown[0] < shown[1]
    assert again.astimezone(zone).date() <= (due_at.astimezone(zone) + 2 * DAY).date()
