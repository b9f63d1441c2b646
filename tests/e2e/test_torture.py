"""The server under torture, and the torture itself: it must find what is broken."""

import asyncio
import sys

import pytest

from flyteops.cli.subject import BUGS
from flyteops.torture import History, Torture, faults_in
from tests import postgres
from tests.shared import PLACES

# Clients that are cut off while they connect leave their sockets to the garbage collector, which complains.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WORDS = {
    "acknowledges-early": "was acknowledged and is lost",
    "forgets-keys": "has 2 executions",
    "hands-out-twice": "was handed out twice",
    "loses-continuations": "the second was never begun",
    "drops-results": "had its result",
    "never-looks-at-the-time": "did not come to an end",
    "writes-carelessly": "has 2 executions",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_every_promise_is_kept_whatever_is_set_for_other_servers(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYTE_AUTH", "tokens")
    torture = Torture(tmp_path, seed=11)
    assert await torture.run(15) == []
    assert torture.harm.done["kill"] > 3
    assert len(torture.history.results) > 100


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_fault_is_found(tmp_path, bug):
    faults = await Torture(tmp_path, seed=3, bug=bug, rest_seconds=5).run(6)
    assert any(WORDS[bug] in fault for fault in faults), faults[:5]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("place", PLACES)
async def test_every_promise_is_kept_by_several_servers(place):
    async with place() as store:
        ran = await run_command("--store", store, "--servers", "3", "--minutes", "0.25", "--seed", "5")
        assert ran.endswith("Every promise was kept.\n"), ran
        assert "the store is not empty" in await run_command("--store", store)


@pytest.mark.postgres
@pytest.mark.timeout(180)
@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_fault_is_found_in_several_servers(tmp_path, bug):
    async with postgres.place() as store:
        faults = await Torture(tmp_path, seed=3, store=store, servers=2, bug=bug, rest_seconds=5).run(10)
    assert any(WORDS[bug] in fault for fault in faults), faults[:5]


@pytest.mark.slow
async def test_several_servers_on_a_file_are_refused(tmp_path):
    assert "need a store that they share" in await run_command("--servers", "2")
    assert "for one that servers share" in await run_command("--store", f"sqlite:///{tmp_path}/flyte.db")


async def run_command(*arguments):
    """Run the command and return what it says."""
    command = [sys.executable, "-m", "flyteops", "torture", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    return (await process.communicate())[0].decode()


# ---------------------------------------------------------------------------------------------------------- the checks


def an_execution(number=1, *, work="SUCCESS", finish="SUCCESS"):
    def action(step_id, state, event):
        result = {"event": event} if state == "SUCCESS" else None
        trigger = {"event": "Begun", "payload": {"number": number}}
        return {"id": f"{step_id}-{number}", "stepId": step_id, "state": {"value": state}, "trigger": trigger, "result": result}

    actions = {"work": action("work", work, "Worked")}
    if finish is not None:
        actions["finish"] = action("finish", finish, "Finished")
    return {"actions": actions}


def a_history(**fields):
    history = History(begun={1}, tried={1}, results={"work-1": "Worked", "finish-1": "Finished"})
    for name, value in fields.items():
        setattr(history, name, value)
    return history


def test_what_went_well_has_no_faults():
    history = a_history()
    history.hand_out("work-1", "Work", 1)
    history.hand_out("work-1", "Work", 2)
    history.hand_out("finish-1", "Finish", 1)
    assert faults_in(history, [an_execution()]) == []


def test_an_answer_that_may_never_have_come_is_no_fault():
    history = a_history(begun=set(), results={})
    assert faults_in(history, [an_execution(finish="PENDING")]) == []


@pytest.mark.parametrize(
    ("history", "executions", "words"),
    [
        (a_history(results={}), [], "event 1 was acknowledged and is lost"),
        (a_history(), [an_execution(), an_execution()], "event 1 has 2 executions"),
        (a_history(), [an_execution(), an_execution(2)], "event 2 was never sent"),
        (a_history(), [an_execution(finish=None)], "the second was never begun"),
        (a_history(), [an_execution(finish="PENDING")], "action finish-1 had its result Finished acknowledged and is PENDING"),
        (a_history(results={"x": "Worked"}), [an_execution()], "action x had its result acknowledged and is lost"),
        (a_history(results={}), [an_execution(work="UNKNOWN", finish=None)], "stuck in UNKNOWN"),
        (a_history(results={}), [an_execution(finish="NEW")], "its step finish is stuck in NEW"),
    ],
)
def test_what_went_wrong_is_told(history, executions, words):
    assert any(words in fault for fault in faults_in(history, executions))


@pytest.mark.parametrize(("command", "attempts"), [("Finish", [1, 2]), ("Work", [1, 1]), ("Work", [1, 2, 1])])
def test_a_double_hand_out_is_told(command, attempts):
    history = a_history()
    for attempt in attempts:
        history.hand_out("a", command, attempt)
    assert len(faults_in(history, [an_execution()])) >= 1
