"""What a store has said is stored outlives the process that said so."""

import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteops.errors import NotFoundError
from flyteops.model import ActionState
from flyteops.service import Service
from flyteops.storage import open_store
from flyteops.storage.base import Store
from flyteops.storage.query import EventFilter, ExecutionFilter
from flyteops.testing.sample import NOON, WORKER
from tests.shared import PLACES

WRITER = """
    import asyncio, itertools, os, sys
    from flyteops.storage import open_store
    from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, always, creating

    def say(*words):
        os.write(1, (" ".join(words) + "\\n").encode())

    async def work(store, sample):
        while True:
            event, action = sample.event(), sample.action()
            await store.record(event, creating(action))
            say("event", event.event_id, action.action_id)
            (claimed,) = await store.claim(WORKER, NOON)
            say("claimed", claimed.action_id)
            result = sample.event("Done")
            await store.finish(claimed.action_id, result, always(NOTHING))
            say("finished", claimed.action_id, result.event_id)

    async def main():
        async with open_store(sys.argv[1]) as store:
            sample = Sample()
            await asyncio.gather(*(work(store, sample) for _ in range(16)))

    asyncio.run(main())
"""


SERVER = """
    import asyncio, os, sys
    from flyteops.model import Command, EventPattern, Flow, NewEvent, PackDeclaration, Step
    from flyteops.service import Service
    from flyteops.storage import open_store

    def a_flow(number, version):
        criteria = "{{ Event.Payload|match:'^%d v%d' }}" % (number, version)
        event = EventPattern(name="Said", pack_name="Chat")
        command = Command(name="Do", pack_name="Worker")
        return Flow(f"f{number}", steps=(Step(event=event, criteria=criteria, command=command),))

    async def main():
        async with open_store(sys.argv[1]) as store:
            service = Service(store)
            await service.start()
            await service.packs.register(PackDeclaration("Chat", {}))
            for number in range(8):
                await service.flows.save(a_flow(number, 0))
            version = 0
            while True:
                version += 1
                await service.flows.save(a_flow(version % 8, version))
                for text in ("nothing", f"{version % 8} v{version}"):
                    event = NewEvent("Said", b'"%b"' % text.encode())
                    event_id = await service.accept_event("Chat", event)
                    os.write(1, f"{event_id} {version} {text.split()[0]}\\n".encode())

    asyncio.run(main())
"""


def write_until_killed(url: str, lines: int, program: str = WRITER) -> list[list[str]]:
    """Run the writer, kill it after so many lines, and return all that it has said."""
    command = [sys.executable, "-c", textwrap.dedent(program), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return [line.split() for line in said if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_was_acknowledged_outlives_a_kill(tmp_path: Path, seed: int) -> None:
    await kill_and_look(f"sqlite:///{tmp_path}/flyte.db", random.Random(seed).randint(1, 1500))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("place", PLACES)
async def test_whatever_a_server_has_acknowledged_outlives_a_kill(
    place: Callable[[], Any], seed: int
) -> None:
    async with place() as url:
        await kill_and_look(url, random.Random(seed).randint(1, 300))


@pytest.mark.parametrize("seed", range(3))
async def test_all_decisions_about_an_acknowledged_event_outlive_a_kill(
    tmp_path: Path, seed: int
) -> None:
    await kill_and_ask_why(f"sqlite:///{tmp_path}/flyte.db", random.Random(seed).randint(1, 400))


@pytest.mark.parametrize("place", PLACES)
async def test_all_decisions_about_an_event_that_a_server_acknowledged_outlive_a_kill(
    place: Callable[[], Any],
) -> None:
    async with place() as url:
        await kill_and_ask_why(url, 60)


async def kill_and_ask_why(url: str, lines: int) -> None:
    """Kill a server that saves flows between events; each event shows the flows of its time."""
    said = write_until_killed(url, lines, SERVER)
    async with open_store(url) as store:
        service = Service(store)
        await service.start()
        for event_id, version, text in said:
            decisions = (await service.audit.get_event(event_id)).decisions
            ran = [each.flow_name for each in decisions if each.outcome == "ran"]
            assert ran == ([] if text == "nothing" else [f"f{int(version) % 8}"])
            assert [each.flow_name for each in decisions] == [f"f{number}" for number in range(8)]


async def kill_and_look(url: str, lines: int) -> None:
    """Let a writer be killed, and see whether all is there that it has said, and nothing in
    part.
    """
    said = write_until_killed(url, lines)
    async with open_store(url) as store:
        for kind, *names in said:
            if kind == "event":
                assert (await store.get_event(names[0])).decisions[0].action_id == names[1]
            action = await store.get_action(names[-1] if kind == "event" else names[0])
            if kind == "claimed":
                assert action.state in (ActionState.PENDING, ActionState.SUCCESS)
            if kind == "finished":
                assert action.result is not None
                assert action.result.event_id == names[1]
        await check_consistency(store)


async def check_consistency(store: Store) -> None:
    """Whatever else there is has been stored in whole, and can be gone on with."""
    executions = await store.list_executions(ExecutionFilter(), 0, 100_000)
    waiting = [
        run.actions[0].action_id for run in executions if run.actions[0].state is ActionState.NEW
    ]
    taken = set()
    while claimed := await store.claim(WORKER, NOON):
        taken.add(claimed[0].action_id)
    assert taken == set(waiting)
    for record in await store.list_events(EventFilter(), 0, 100_000):
        for one in record.decisions:
            assert (await store.get_execution(one.correlation_id or "")).actions[
                0
            ].trigger == record.event
        if record.action_id is not None:
            assert (await store.get_action(record.action_id)).result == record.event
    with pytest.raises(NotFoundError):
        await store.get_event("never")
