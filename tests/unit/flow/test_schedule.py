"""When schedules are due where the clocks are set: cases with their right values."""

from datetime import UTC, datetime

import pytest

from flyteops.flow.schedule import (
    check_cron,
    count_until,
    get_time_zone,
    last_until,
    next_after,
    next_run,
)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "name", "moment", "expected"),
    [
        # In the hour that comes twice, a fixed time was due the first time.
        ("45 2 * * *", "Europe/Berlin", "2026-10-25T01:05", "2026-10-26T01:45"),
        ("59 2 * * *", "Europe/Berlin", "2026-10-25T01:40", "2026-10-26T01:59"),
        ("*/15 2 * * *", "Europe/Berlin", "2026-10-25T00:45", "2026-10-25T01:00"),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T15:10", "2026-04-05T15:15"),
        ("30 2 * * *", "Antarctica/Troll", "2026-10-25T01:10", "2026-10-26T02:30"),
        ("30 23 * * *", "America/Asuncion", "2024-03-24T03:10", "2024-03-25T03:30"),
        # What the clocks skip is due when the gap ends.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", "2026-10-03T15:30"),
        ("0 0 * * *", "Asia/Beirut", "2024-03-30T12:00", "2024-03-30T22:00"),
        ("0 0 * * *", "Africa/Cairo", "2023-04-27T12:00", "2023-04-27T22:00"),
        ("0 12 * * *", "Pacific/Apia", "2011-12-30T00:00", "2011-12-30T10:00"),
        ("*/15 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-30T00:00"),
        # The offset that holds then, not the one that holds now.
        ("*/5 0 1 7 *", "Europe/Berlin", "2026-01-10T00:00", "2026-06-30T22:00"),
        ("0 * 29 2 *", "Europe/Berlin", "2026-01-10T00:00", "2028-02-28T23:00"),
        ("* * * * *", "UTC", "9999-12-31T23:59", None),
        ("0 0 * * *", "Pacific/Kiritimati", "9999-12-31T23:59", None),
        ("0 0 * * *", "America/New_York", "9999-12-31T23:59", None),
    ],
)
def test_the_next_time_of_a_schedule_where_the_clocks_are_set(cron, name, moment, expected):
    assert next_after(cron, name, at(moment)) == (expected and at(expected))


@pytest.mark.parametrize(
    ("cron", "name", "moment", "expected"),
    [
        ("45 2 * * *", "Europe/Berlin", "2026-10-25T01:05", "2026-10-25T00:45"),
        ("59 2 * * *", "Europe/Berlin", "2026-10-25T01:05", "2026-10-25T00:59"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T01:00"),
        ("*/15 2 * * *", "Europe/Berlin", "2026-10-25T01:05", "2026-10-25T01:00"),
        ("*/15 2 * * *", "Europe/Berlin", "2026-03-29T12:00", "2026-03-28T01:45"),
        ("0 * 1 7 *", "Europe/Berlin", "2027-01-10T00:00", "2026-07-01T21:00"),
        ("0 0 * * *", "Pacific/Apia", "2011-12-30T09:00", "2011-12-29T10:00"),
    ],
)
def test_the_last_time_of_a_schedule_where_the_clocks_are_set(cron, name, moment, expected):
    assert last_until(cron, name, at(moment)) == at(expected)


@pytest.mark.parametrize("catch_up", ["all", "last", "skip"])
def test_a_schedule_is_due_once_in_the_hour_that_comes_twice_however_it_catches_up(catch_up):
    due_at, now, fired = at("2026-10-25T00:45"), at("2026-10-25T00:45"), []
    while now < at("2026-10-25T12:00"):
        if now >= due_at:
            ticked = next_run("45 2 * * *", "Europe/Berlin", catch_up, due_at, now)
            fired.append(ticked.fires_for)
            due_at = ticked.next_at
        now = max(now, min(due_at, at("2026-10-25T12:00")))
    assert fired == [at("2026-10-25T00:45")]
    assert due_at == at("2026-10-26T01:45")


def test_a_time_zone_that_is_not_known_is_refused_with_a_hint_at_its_data():
    for name in ("Europe/Atlantis", "../../etc/passwd", "Europe", "", "a\0b", "\udcff"):
        with pytest.raises(
            ValueError, match=r"not a time zone that this computer knows; .* tzdata"
        ):
            get_time_zone(name)


@pytest.mark.parametrize(
    "cron", ["0 0 30 2 *", "1 2 3 4", "60 * * * *", "L * * * *", "0 0 * * L/2", ""]
)
def test_an_expression_that_is_never_due_or_not_valid_is_refused(cron):
    with pytest.raises(ValueError, match="cron expression"):
        check_cron(cron)


@pytest.mark.parametrize(
    ("name", "cron"),
    [
        ("@midnight", "0 0 * * *"),
        ("@annually", "0 0 1 1 *"),
        ("@5minutes", "*/5 * * * *"),
        (" @Midnight ", "0 0 * * *"),
    ],
)
def test_the_names_of_cron_and_of_matches_cron_are_known(name, cron):
    moment = at("2026-11-23T12:01")
    assert next_after(name, "UTC", moment) == next_after(cron, "UTC", moment)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("@anually", "did you mean '@annually'?"),
        ("@reboot", "known are @always"),
        ("61 * * * *", "the minute '61' cannot be used; minutes are from 0 to 59"),
        ("0 0 ? * 1", "for any, write"),
        ("0 0 * 13 *", "the month '13' cannot be used; months are from 1 to 12"),
        ("0 0 * * MON-FOO", "the weekday 'MON-FOO' cannot be used"),
        ("*/0 * * * *", "a step is a number from 1"),
        ("0 0 1 1 * 2027", "has 6 fields; it needs 5"),
        ("0," * 200 + "0 * * * *", "longer than 200 characters"),
    ],
)
def test_a_cron_expression_that_cannot_be_read_is_refused_with_its_field(cron, words):
    with pytest.raises(ValueError, match=words):
        check_cron(cron)


def test_times_are_counted_up_to_a_bound():
    first, last = at("2026-11-23T12:00"), at("2026-11-23T13:00")
    assert count_until("*/15 * * * *", "UTC", first, last, at_most=100) == 5
    assert count_until("* * * * *", "UTC", first, last, at_most=10) == 10


def test_a_zone_whose_data_is_missing_is_not_suggested_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("flyteops.flow.schedule.ZoneInfo", missing)
    with pytest.raises(ValueError, match="install newer time zone data") as error:
        get_time_zone("Europe/Kyiv")
    assert "did you mean" not in str(error.value)
