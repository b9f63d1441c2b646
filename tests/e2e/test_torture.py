"""The server under torture, and the torture itself: it must find what is broken."""

import asyncio
import contextlib
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from flyteops_chaos import ChaosRun, History, faults_in
from flyteops_chaos.history import HandOut, SentEvent, SentResult
from flyteops_chaos.planted import CARELESS, PLANTED
from flyteops_chaos.power_loss import PowerLoss
from tests import postgres
from tests.shared import PLACES

# Clients that are cut off while they connect leave their sockets to the garbage collector, which
# complains.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WORDS = {
    "acknowledges-early": "was acknowledged and is lost",
    # The log may show it before a client does.
    "answers-500": ("was answered with 500", "planted fault"),
    "drops-late-results": "is not kept",
    # One server drops the result, another one has handed the action out again when it is sent once
    # more.
    "drops-results": (
        "had its result",
        "which was lost, was applied",
        "was sent again was answered with 409",
    ),
    # The store sets a schedule aside that is due again at once.
    "fires-twice": ("2 actions Scheduled", "has never fired"),
    "forgets-keys": "has 2 ",
    "hands-out-twice": "was handed out twice",
    "ignores-delays": "it is delayed by more",
    "ignores-fencing": "the result of attempt",
    "joins-early": "before both that it waits for had ended",
    "keeps-delays-for-ever": "its step delayed is stuck in NEW",
    # With a time limit, an action that leaked comes again after ever longer pauses between its
    # attempts.
    "leaks-hand-backs": (
        "an action that no pack received was not handed out again",
        "did not come to an end",
    ),
    "logs-tracebacks": "logged a traceback",
    "loses-continuations": "the second was never begun",
    "mixes-versions": "several versions of its flow",
    "never-joins": "both steps that its last one waits for have ended, and it was never begun",
    "never-looks-at-the-time": "did not come to an end",
    "removes-unfinished": "was removed before it had ended",
    "repeats-deliveries": "has 2 actions Hooked",
    "skips-firings": "has never fired for",
    "writes-carelessly": "has 2 ",
}
"""A part of the complaint about each planted fault."""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_every_promise_is_kept_whatever_is_set_for_other_servers(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYTE_AUTH", "tokens")
    run = ChaosRun(tmp_path, seed=11)
    assert await run.run(15, kills=4) == []
    assert len(run.history.applied) > 100


TRIES = {3: 3, 4: 6, 5: 12}
"""The seconds of each run, by its seed: chance decides how soon a fault comes to light, and a
slow machine does less.
"""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", PLANTED)
async def test_a_planted_fault_is_found(tmp_path, bug):
    await check_found(bug, tmp_path, contextlib.nullcontext, rest_seconds=12)


async def check_found(bug, folder, place, **options):
    """Check that one of several runs finds a planted fault."""
    for seed, seconds in TRIES.items():
        (own := folder / str(seed)).mkdir()
        async with place() as store:
            run = ChaosRun(own, seed=seed, store=store, bug=bug, stops_early=True, **options)
            faults = await run.run(seconds, kills=3)
        if any(is_about(bug, fault) for fault in faults):
            return
    raise AssertionError(faults[:5])


def is_about(bug: str, fault: str) -> bool:
    """Tell whether a complaint is one that a planted fault leads to."""
    words = WORDS[bug]
    return any(each in fault for each in ((words,) if isinstance(words, str) else words))


@pytest.mark.alone
@pytest.mark.timeout(180)
@pytest.mark.parametrize("place", PLACES)
async def test_every_promise_is_kept_by_several_servers(place):
    async with place() as store:
        ran = await run_command(
            "--store", store, "--servers", "3", "--minutes", "0.25", "--seed", "5"
        )
        assert ran.endswith("Every promise was kept.\n"), ran
        assert "the store is not empty" in await run_command("--store", store)


@pytest.mark.postgres
@pytest.mark.alone
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", PLANTED)
async def test_a_planted_fault_is_found_in_several_servers(tmp_path, bug):
    await check_found(bug, tmp_path, postgres.place, servers=2, rest_seconds=8)


@pytest.mark.slow
async def test_several_servers_on_a_file_are_refused(tmp_path):
    assert "need a store that they share" in await run_command("--servers", "2")
    assert "for one that servers share" in await run_command(
        "--store", f"sqlite:///{tmp_path}/flyte.db"
    )


async def run_command(*arguments):
    """Run the command and return what it says."""
    command = [sys.executable, "-m", "flyteops", "torture", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    return (await process.communicate())[0].decode()


# ---------------------------------------------------------------------------------------- the power


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_nothing_that_was_acknowledged_is_lost_when_the_power_fails(tmp_path):
    assert await PowerLoss(tmp_path, seed=1).run() == []


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(180)
@pytest.mark.parametrize("bug", CARELESS)
async def test_a_server_that_does_not_sync_is_found(tmp_path, bug):
    (fault, *_) = await PowerLoss(tmp_path, seed=1, bug=bug).run()
    assert fault.endswith("is lost")


# --------------------------------------------------------------------------------------- the checks

SAVED = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def action(step_id, state="SUCCESS", *, name="Work", number=1, payload=None, **more):
    """Return an action as the audit shows it."""
    result = (
        {"event": f"{name}Done", "payload": payload or {"number": "1", "attempt": 1}}
        if state == "SUCCESS"
        else {}
    )
    return {
        "id": f"{step_id}-{number}",
        "name": name,
        "stepId": step_id,
        "state": {"value": state},
        "trigger": {"payload": {"number": number}},
        "input": {"number": str(number)},
        "result": result,
        **more,
    }


def an_execution(kind="work", *actions, steps=()):
    """Return an execution as the audit shows it, of the kind work unless another is named."""
    actions = actions or (action("work"), action("finish", name="Finish"))
    return {
        "name": f"torture-{kind}",
        "steps": steps,
        "actions": {each["stepId"]: each for each in actions},
    }


class Story(History):
    """A history with an event of the kind work, of which all went well."""

    def __init__(self, *, kind="work", **event):
        super().__init__()
        self.events[1] = SentEvent(kind, time.monotonic(), is_acknowledged=True, **event)

    def receive(self, command, attempt=1, *, action_id="", at=0.0, **values):
        received = HandOut(
            action_id or command,
            command,
            attempt,
            {"number": "1", **values},
            at or time.monotonic(),
        )
        self.hand_outs[received.action_id].append(received)
        return received

    def result(self, received, status=202, *, code="", at=0.0):
        payload = {"number": "1", "attempt": received.attempt}
        sent = SentResult(f"{received.command}Done", payload, at or time.monotonic(), status, code)
        self.results[received.action_id, received.attempt] = sent


def complaints(history, *executions):
    return faults_in(history, executions)


def test_what_went_well_has_no_faults():
    story = Story()
    story.receive("Work", 1, action_id="work-1")
    story.result(story.receive("Work", 2, action_id="work-1"))
    story.result(story.receive("Finish", action_id="finish-1"))
    done = action(
        "work", payload={"number": "1", "attempt": 2}, attempts=[{"number": 1}, {"number": 2}]
    )
    assert complaints(story, an_execution("work", done, action("finish", name="Finish"))) == []


def test_what_was_lost_with_a_server_that_was_killed_is_no_fault():
    story = Story()
    story.kills = 1
    assert (
        complaints(
            story, an_execution("work", action("work"), action("finish", "PENDING", name="Finish"))
        )
        == []
    )


@pytest.mark.parametrize(
    "history",
    [Story(), Story(is_calm=True)],
    ids=["nobody was killed", "nobody was killed any more"],
)
def test_what_no_pack_got_has_no_other_excuse(history):
    history.kills = int(history.events[1].is_calm)
    (fault,) = complaints(
        history, an_execution("work", action("work"), action("finish", "PENDING", name="Finish"))
    )
    assert "its step finish is with nobody" in fault


@pytest.mark.parametrize(
    ("executions", "words"),
    [
        ([], "event 1 (work) was acknowledged and is lost"),
        ([an_execution(), an_execution()], "event 1 (work) has 2 executions"),
        (
            [an_execution(), an_execution("work", action("work", number=2))],
            "event 2 was never sent",
        ),
        ([an_execution("work", action("work", "UNKNOWN"))], "stuck in UNKNOWN"),
        (
            [an_execution("work", action("work"), action("finish", "NEW", name="Finish"))],
            "its step finish is stuck in NEW",
        ),
        (
            [an_execution("join", action("left"), action("right"))],
            "its last one waits for have ended, and it was never begun",
        ),
        (
            [an_execution("work", action("work", attempts=[{"number": 1}, {"number": 2}]))],
            "has the result of attempt 1, and was handed out 2 times",
        ),
    ],
)
def test_a_fault_that_the_audit_shows_is_reported(executions, words):
    assert any(words in fault for fault in complaints(Story(), *executions))


@pytest.mark.parametrize(
    ("executions", "words"),
    [
        ([an_execution("work", action("work"))], "the second was never begun"),
        (
            [an_execution("work", action("work", "PENDING"))],
            "had its result WorkDone acknowledged and is PENDING",
        ),
        (
            [an_execution("work", action("work", payload={"attempt": 2}))],
            "had its result WorkDone acknowledged and is SUCCESS",
        ),
        (
            [an_execution("work", action("other"))],
            "action work-1 had its result acknowledged and is lost",
        ),
    ],
)
def test_a_result_that_was_acknowledged_and_not_applied_is_reported(executions, words):
    story = Story()
    story.result(story.receive("Work", action_id="work-1"))
    assert any(words in fault for fault in complaints(story, *executions))


def test_a_late_result_that_is_not_kept_is_reported():
    story = Story()
    story.result(story.receive("Work", 1, action_id="work-1"), 409, code="late")
    done = {"payload": {"number": "1", "attempt": 2}, "attempts": [{"number": 1}, {"number": 2}]}
    finish = action("finish", name="Finish")
    (fault,) = complaints(story, an_execution("work", action("work", **done), finish))
    assert fault == "action work-1: the late result of attempt 1 is not kept"
    done["attempts"][0]["lateResult"] = {"payload": {"number": "1", "attempt": 1}}
    assert complaints(story, an_execution("work", action("work", **done), finish)) == []


def test_a_late_result_that_is_applied_is_reported():
    story = Story()
    first, second = story.receive("Work", 1, at=1.0), story.receive("Work", 2, at=2.0)
    story.result(first, at=3.0)
    assert any(
        "the result of attempt 1, which was lost, was applied" in fault
        for fault in complaints(story, an_execution())
    )
    story.results.clear()
    story.result(second, at=3.0)
    assert not any("was applied" in fault for fault in complaints(story, an_execution()))


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [("Work", 404, ""), ("Work", 409, "conflict"), ("Finish", 409, "late"), ("Finish", 404, "")],
)
def test_a_refused_result_is_reported(command, status, code):
    story = Story()
    story.result(story.receive(command), status, code=code)
    assert any(f"answered with {status}" in fault for fault in complaints(story, an_execution()))


@pytest.mark.parametrize(
    ("command", "attempts"), [("Finish", [1, 2]), ("Work", [1, 1]), ("Work", [1, 2, 1])]
)
def test_a_double_hand_out_is_reported(command, attempts):
    story = Story()
    for attempt in attempts:
        story.receive(command, attempt, action_id="a")
    assert len(complaints(story, an_execution())) >= 1


def test_two_actions_for_one_event_are_reported():
    story = Story()
    story.receive("Work", action_id="a")
    story.receive("Work", action_id="b")
    assert "event 1 has 2 actions Work" in complaints(story, an_execution())


def test_an_action_that_is_handed_out_before_its_delay_is_over_is_reported():
    story = Story(kind="delay")
    story.receive("Delayed", at=story.events[1].sent_at + 0.5)
    assert any(
        "after 0.50 s; it is delayed by more" in fault
        for fault in complaints(story, an_execution())
    )
    story.clock_changes.append(story.events[1].sent_at + 0.1)
    assert not any("it is delayed" in fault for fault in complaints(story, an_execution()))


def test_a_delay_may_be_shorter_by_as_much_as_the_clocks_of_servers_differ():
    story = Story(kind="delay")
    story.receive("Delayed", at=story.events[1].sent_at + 0.5)
    story.clock_spreads += [(story.events[1].sent_at - 9, 0.8), (story.events[1].sent_at + 5, 0.0)]
    assert not any("it is delayed" in fault for fault in complaints(story, an_execution()))
    story.clock_spreads.insert(1, (story.events[1].sent_at - 1, 0.1))
    assert any("it is delayed" in fault for fault in complaints(story, an_execution()))


def test_a_step_that_does_not_wait_for_all_is_reported():
    story = Story(kind="join")
    story.result(story.receive("Left"), at=1.0)
    story.receive("Join", at=2.0)
    assert any(
        "before both that it waits for had ended" in fault
        for fault in complaints(story, an_execution())
    )
    story.result(story.receive("Right"), at=1.5)
    assert not any("before both" in fault for fault in complaints(story, an_execution()))


def test_versions_that_are_mixed_are_reported():
    story = Story(kind="version", version=2)
    story.receive("First", version="3")
    story.receive("Second", version="4")
    assert any(
        "by several versions of its flow: 3, 4" in fault
        for fault in complaints(story, an_execution())
    )


def test_a_version_that_was_replaced_before_the_event_is_reported():
    story = Story(kind="version", version=2)
    story.receive("First", version="1")
    assert any(
        "by version 1 after version 2 was acknowledged" in fault
        for fault in complaints(story, an_execution())
    )


def test_a_step_of_another_version_than_its_execution_is_reported():
    steps = [{"id": "first", "command": {"input": {"version": "1"}}}]
    mixed = an_execution("version", action("first", input={"version": "2"}), steps=steps)
    assert any(
        "its step first is of version 2, its execution of 1" in fault
        for fault in complaints(Story(kind="version"), mixed)
    )


def test_an_unexpected_answer_is_reported():
    story = Story()
    story.unexpected["GET /v1/flows was answered with 500: "] += 2
    assert "GET /v1/flows was answered with 500:  (2 times)" in complaints(story, an_execution())


def firings(*minutes):
    """Return the executions of a schedule, one for each minute after twelve."""
    at = [SAVED.replace(minute=minute, second=0) for minute in minutes]
    ticks = [
        action("tick", name="Scheduled", trigger={"payload": {"scheduledAt": each.isoformat()}})
        for each in at
    ]
    return [an_execution("schedule-1", tick) for tick in ticks]


@pytest.mark.parametrize(
    ("minutes", "until", "words"),
    [
        ([1, 2, 2, 3], 3, "has fired 2 times for 12:02"),
        ([1, 3], 3, "has never fired for 12:02"),
        ([2, 3], 3, "has never fired for 12:01"),
        ([1, 2], 3, "has never fired for 12:03"),
        ([], 1, "has never fired for 12:01"),
    ],
)
def test_a_time_that_has_not_fired_once_is_reported(minutes, until, words):
    story = Story()
    story.schedules["torture-schedule-1"] = (SAVED - timedelta(seconds=1), SAVED)
    executions = [an_execution(), *firings(*minutes)]
    faults = faults_in(story, executions, fired_until=SAVED.replace(minute=until, second=0))
    assert any(words in fault for fault in faults)


def test_times_that_have_fired_once_each_are_no_fault():
    story = Story()
    story.schedules["torture-schedule-1"] = (SAVED - timedelta(seconds=1), SAVED)
    assert (
        faults_in(story, [an_execution(), *firings(1, 2, 3)], fired_until=SAVED.replace(minute=3))
        == []
    )
