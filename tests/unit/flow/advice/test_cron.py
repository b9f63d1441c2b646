"""Advice about cron expressions, in schedules and in templates."""

import pytest

from flyteops.document import Document
from flyteops.flow.file import lint, read_flow


def advice_on(**step):
    value = {"name": "f", "steps": [{"id": "s", "command": {"packName": "P", "name": "C"}, **step}]}
    document = Document(value)
    return [problem.message for problem in lint(document, read_flow(document))]


def advice_on_schedule(cron):
    return advice_on(schedule={"cron": cron})


def advice_on_filter(cron):
    criteria = "{{ Event.Payload.at|matchesCron:'" + cron + "' }}"
    return advice_on(event={"packName": "P", "name": "E"}, criteria=criteria)


@pytest.mark.parametrize("advice_on", [advice_on_schedule, advice_on_filter])
@pytest.mark.parametrize(
    ("cron", "words"),
    [
        (
            "*/90 * * * *",
            (
                "'*/90' is not every 90 minutes: a step counts within one hour, so this is minute 0"
                " of every hour"
            ),
        ),
        (
            "0 */36 * * *",
            (
                "'*/36' is not every 36 hours: a step counts within one day, so this is hour 0 of"
                " every day"
            ),
        ),
        ("0 0 */40 * *", "'*/40' is not every 40 days"),
        ("0 0 1 */18 *", "'*/18' is not every 18 months"),
        ("0 0 * * */14", "'*/14' is not every 14 weekdays"),
        ("10/55 * * * *", "so this is minute 10 of every hour"),
        ("0-59/90 * * * *", "'0-59/90' is not every 90 minutes"),
        ("5,*/90 * * * *", "'*/90' is not every 90 minutes"),
        ("*/45 * * * *", "(minute 45) is followed by the next one after 15"),
        ("0 */5 * * *", "(hour 20) is followed by the next one after 4"),
    ],
)
def test_a_step_that_does_not_keep_its_interval_is_advised_against(advice_on, cron, words):
    (message,) = advice_on(cron)
    assert words in message


@pytest.mark.parametrize("advice_on", [advice_on_schedule, advice_on_filter])
@pytest.mark.parametrize(
    "cron",
    [
        "*/15 * * * *",
        "*/60 * * * *",
        "0 */24 * * *",
        "0 9-17/2 * * 1-5",
        "0 0 1 */3 *",
        "0 0 */2 * *",
        "@daily",
        "5/60 * * * *",
    ],
)
def test_a_step_that_keeps_its_interval_gets_no_advice(advice_on, cron):
    assert advice_on(cron) == []


def test_schedule_and_matches_cron_are_told_apart_on_day_and_weekday():
    assert "matches the day '1-7' or the weekday '1'" in advice_on_schedule("0 9 1-7 * 1")[0]
    assert "requires both the day '1-7' and the weekday '1'" in advice_on_filter("0 9 1-7 * 1")[0]
    assert (
        advice_on_schedule("0 9 */2 * 1")
        == advice_on_filter("0 9 */2 * 1")
        == advice_on_filter("0 9 ? * 1")
        == []
    )


@pytest.mark.parametrize("weekday", ["7", "5-7", "1,7", "7#2", "7L"])
def test_a_seven_in_matches_cron_is_advised_against(weekday):
    assert "leaves out Sunday" in advice_on_filter(f"0 9 * * {weekday}")[0]


@pytest.mark.parametrize("weekday", ["0", "0-7", "0-6", "SUN", "2#1"])
def test_other_weekdays_in_matches_cron_get_no_advice(weekday):
    assert advice_on_filter(f"0 9 * * {weekday}") == []


def test_names_that_matches_cron_does_not_know_are_advised_against():
    assert advice_on_filter("@midnight") == [
        "matchesCron does not know '@midnight' and fails; write '0 0 * * *'"
    ]
    assert advice_on_filter("@dayly") == [
        "matchesCron does not know '@dayly' and fails; did you mean '@daily'?"
    ]


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("61 * * * *", "minutes are from 0 to 59"),
        ("0,61 * * * *", "minutes are from 0 to 59"),
        ("0 24 ? * MON 2026", "hours are from 0 to 23"),
        ("0 0 30 2 *", "one of the months must have such a day"),
        ("0 0 * * FRI-MON", "weekdays are from 0 to 7"),
        ("5 * * *", "has 4 fields"),
    ],
)
def test_what_matches_cron_cannot_match_is_advised_against(cron, words):
    (advice,) = advice_on_filter(cron)
    assert "matchesCron fails, or a part of the expression never matches" in advice
    assert words in advice


@pytest.mark.parametrize("cron", ["0 0 15W * *", "0 0 L * *", "0 0 * * 5L", "? * * JAN MON 2026"])
def test_what_only_matches_cron_knows_gets_no_advice(cron):
    assert advice_on_filter(cron) == []


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "*",
        "1 2 3",
        "* * * * * * * *",
        "/" * 5000,
        "*/" + "9" * 5000 + " * * * *",
        "1-/5 * * * *",
    ],
)
def test_no_expression_breaks_the_advice(cron):
    assert isinstance(advice_on_filter(cron), list)
