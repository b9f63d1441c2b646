"""The output of a command, as long as the log of a build, passes through a flow to its end."""

import httpx2
import pytest

from tests.e2e.test_sdk_process import program

pytestmark = pytest.mark.slow

LINES = 55_000
SCRIPT = f"seq {LINES} | sed 's/.*/[&] compiled a module of the project/'; echo 'ERROR: linking'"
LOG = "".join(f"[{line}] compiled a module of the project\n" for line in range(1, LINES + 1))
LOG += "ERROR: linking\n"


async def test_what_a_command_prints_reaches_the_step_after_the_next(server: str) -> None:
    assert len(LOG) > 2_000_000
    log = "{{ Event.Payload.stdout }}"
    build = {
        "id": "build",
        "event": {"packName": "Sink", "name": "Asked"},
        "command": {"packName": "Shell", "name": "Shell", "input": SCRIPT},
    }
    report = {
        "id": "report",
        "dependsOn": ["build"],
        "event": {"packName": "Shell", "name": "Output"},
        "criteria": "{{ Event.Payload.stdout|match:'ERROR: linking' }}",
        "context": {"log": log},
        "command": {"packName": "Sink", "name": "Report", "input": {"text": f"Log:\n{log}"}},
    }
    again = {
        "id": "again",
        "dependsOn": ["report"],
        "event": {"packName": "Sink", "name": "Reported"},
        "command": {"packName": "Sink", "name": "Report", "input": ["{{ Context.log }}", log]},
    }
    async with (
        httpx2.AsyncClient(base_url=f"{server}/v1", timeout=60) as api,
        program("-m", "flyteops", "pack", "run", "Shell", api=server),
    ):
        declared = {"name": "Sink", "commands": [{"name": "Report"}]}
        (await api.post("/packs", json=declared)).raise_for_status()
        flow = {"name": "log", "steps": [build, report, again]}
        (await api.post("/flows", json=flow)).raise_for_status()
        (await api.post("/packs/Sink/events", json={"event": "Asked"})).raise_for_status()
        action = (await api.post("/packs/Sink/actions/take?wait=25")).json()
        assert action["input"] == {"text": f"Log:\n{LOG}"}
        answer = {"event": "Reported", "payload": {"stdout": LOG}}
        (await api.post(action["links"][0]["href"], json=answer)).raise_for_status()
        action = (await api.post("/packs/Sink/actions/take?wait=25")).json()
        assert action["input"] == [LOG, LOG]
