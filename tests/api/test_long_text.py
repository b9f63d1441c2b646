"""A text as long as a body passes through a flow: criteria, context, input, and a result."""

from typing import Any

import httpx2
import pytest

from flyteops.web.api.request import Options

LOG = "".join(f"[{line:06}] compiled module {line}: é ok\n" for line in range(55_000))
LOG += "ERROR: linking failed\n"
"""The log of a build, of some 2 MB."""


@pytest.fixture
def options() -> Options:
    """As a server has them, not the small ones of other tests."""
    return Options()


async def test_a_build_log_passes_through_a_flow(api: httpx2.AsyncClient) -> None:
    assert 2_000_000 < len(LOG.encode()) < 3_000_000
    log = "{{ Event.Payload.stdout }}"
    fails = r"{{ Event.Payload.stdout|match:'ERROR: (\\w+)' }}"
    command = {"packName": "Build", "name": "Report"}
    first: dict[str, Any] = {
        "id": "first",
        "event": {"packName": "Build", "name": "Ended"},
        "criteria": fails,
        "context": {"log": log},
        "command": {
            **command,
            "input": {
                "message": f"Log:\n{log}",
                "rest": "{{ Event.Payload.stdout|cut:'ERROR: ' }}",
            },
        },
    }
    second = {
        "id": "second",
        "dependsOn": ["first"],
        "event": {"packName": "Build", "name": "Reported"},
        "command": {
            **command,
            "input": [
                "{{ Context.log }}",
                r"{{ Event.Payload.stdout|extractMatch:'ERROR: (.+)' }}",
                "{{ Event.Payload.stdout|length }}",
            ],
        },
    }
    await api.post("/v1/packs", json={"name": "Build", "commands": [{"name": "Report"}]})
    answer = await api.post("/v1/flows", json={"name": "log", "steps": [first, second]})
    assert answer.status_code == 201, answer.text
    payload = {"stdout": LOG}
    answer = await api.post("/v1/packs/Build/events", json={"event": "Ended", "payload": payload})
    assert answer.status_code == 202, answer.text
    action = (await api.post("/v1/packs/Build/actions/take")).json()
    assert action["input"] == {"message": f"Log:\n{LOG}", "rest": LOG.replace("ERROR: ", "")}
    href = action["links"][0]["href"]
    answer = await api.post(href, json={"event": "Reported", "payload": payload})
    assert answer.status_code == 202, answer.text
    action = (await api.post("/v1/packs/Build/actions/take")).json()
    assert action["input"] == [LOG, "linking failed", str(len(LOG))]
