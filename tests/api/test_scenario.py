"""Whole stories, told by the packs in them, as users of old have set them up."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import yaml

from flyteops.document import to_yaml

Post = Callable[..., Awaitable[httpx2.Response]]


class Speaker:
    """Talks to the API in one format, both ways."""

    def __init__(self, api: httpx2.AsyncClient, kind: str) -> None:
        self._api = api
        self._is_yaml = kind == "yaml"
        self._headers = (
            {"Accept": "application/x-yaml", "Content-Type": "application/x-yaml"}
            if self._is_yaml
            else {}
        )

    async def post(self, path: str, value: Any = None, status: int = 201) -> Any:
        content = to_yaml(value) if self._is_yaml else json.dumps(value).encode()
        answer = await self._api.post(path, content=content, headers=self._headers)
        assert answer.status_code == status, answer.text
        return self._read(answer)

    async def get(self, path: str, **params: str) -> Any:
        answer = await self._api.get(path, params=params, headers=self._headers)
        assert answer.status_code == 200
        return self._read(answer)

    def _read(self, answer: httpx2.Response) -> Any:
        return yaml.safe_load(answer.text) if self._is_yaml else json.loads(answer.text or "null")


@pytest.fixture(params=["json", "yaml"])
async def flyte(api: httpx2.AsyncClient, request: pytest.FixtureRequest) -> Speaker:
    return Speaker(api, request.param)


def to(pack: str, command: str, what: Any, **labels: str) -> dict[str, Any]:
    return {
        "packName": pack,
        "name": command,
        "input": what,
        **({"packLabels": labels} if labels else {}),
    }


def on(pack: str, event: str, **labels: str) -> dict[str, Any]:
    return {"packName": pack, "name": event, **({"packLabels": labels} if labels else {})}


ONBOARDING = {
    "name": "pob_flow1",
    "description": "Sets up a build pipeline for whoever asks for one.",
    "steps": [
        {
            "id": "hipchat_start",
            "event": on("Hipchat", "MessageReceived"),
            "context": {
                "roomId": "{{ Event.Payload.roomId }}",
                "foo": "bar",
                "env": "{{Event.Pack.Labels.env}}",
            },
            "criteria": "{{ Event.Payload.roomId == 'pobRoom'}}",
            "command": to(
                "Argo",
                "CreateArtifact",
                {"project": "{{ Event.Payload.project }}"},
                env="{{Context.env}}",
            ),
        },
        {
            "id": "jira_start",
            "event": on("Jira", "TicketCreated"),
            "criteria": "{{ 'pob' == 'pob' }}",
            "command": to("Argo", "CreateArtifact", {"project": "{{ Event.Payload.project }}"}),
        },
        {
            "id": "argo_to_bamboo",
            "dependsOn": ["hipchat_start", "jira_start"],
            "event": on("Argo", "ArtifactCreated", env="{{ Context.env }}"),
            "command": to(
                "Bamboo",
                "CreatePlan",
                {"foo": "{{ Context.foo}}", "artifact": "{{ Event.Payload }}"},
            ),
        },
        {
            "id": "bamboo_to_hipchat",
            "dependsOn": ["hipchat_start"],
            "event": on("Bamboo", "PlanCreated"),
            "command": to(
                "Hipchat",
                "SendMessage",
                {
                    "roomId": "{{ Context.roomId }}",
                    "message": "Created plan: {{ Event.Payload.name }}",
                },
            ),
        },
        {
            "id": "bamboo_to_jira",
            "dependsOn": ["jira_start"],
            "event": on("Bamboo", "PlanCreated"),
            "command": to("Jira", "Comment", "Created plan: {{ Event.Payload.name }}"),
        },
    ],
}

HIPCHAT, ARGO = "Hipchat.env.staging.network.lab", "Argo.env.staging.network.lab.x.y"


async def test_a_pipeline_is_set_up_for_whoever_asks_in_the_chat(flyte: Speaker) -> None:
    lab = {"env": "staging", "network": "lab"}
    await flyte.post(
        "/v1/packs",
        {
            "name": "Slack",
            "commands": [{"name": "Look", "events": ["Looked"]}],
            "events": [{"name": "Heard"}],
        },
    )
    await flyte.post("/v1/packs", {"name": "Jira"})
    hipchat = await flyte.post("/v1/packs", {"name": "Hipchat", "labels": lab})
    argo = await flyte.post("/v1/packs", {"name": "Argo", "labels": {**lab, "x": "y"}})
    await flyte.post(
        "/v1/packs",
        {"name": "Bamboo", "commands": [{"name": "CreatePlan", "events": ["PlanCreated"]}]},
    )
    assert (hipchat["id"], argo["id"]) == (HIPCHAT, ARGO)
    saved = await flyte.post("/v1/flows", ONBOARDING)
    assert saved["steps"] == ONBOARDING["steps"]

    async def work(pack_id: str, event: str, payload: Any) -> Any:
        action = await flyte.post(f"/v1/packs/{pack_id}/actions/take", status=200)
        await flyte.post(
            action["links"][0]["href"], {"event": event, "payload": payload}, status=202
        )
        return action["input"]

    asked = {"event": "MessageReceived", "payload": {"roomId": "pobRoom", "project": "shop"}}
    await flyte.post(
        f"/v1/packs/{HIPCHAT}/events", {**asked, "payload": {"roomId": "elsewhere"}}, status=202
    )
    await flyte.post(f"/v1/packs/{HIPCHAT}/events", asked, status=202)
    assert await work(ARGO, "ArtifactCreated", "shop-artifact") == {"project": "shop"}
    assert await work("Bamboo", "PlanCreated", {"name": "foo-bamboo-plan"}) == {
        "foo": "bar",
        "artifact": "shop-artifact",
    }
    assert await work(HIPCHAT, "MessageSent", None) == {
        "roomId": "pobRoom",
        "message": "Created plan: foo-bamboo-plan",
    }

    (execution,) = (await flyte.get("/v1/audit/flows", flowName="pob_flow1"))["flows"]
    assert set(execution["actions"]) == {"hipchat_start", "argo_to_bamboo", "bamboo_to_hipchat"}
    assert {action["state"]["value"] for action in execution["actions"].values()} == {"SUCCESS"}
    assert execution["actions"]["hipchat_start"]["packLabels"] == {"env": "staging"}
    assert execution["actions"]["bamboo_to_hipchat"]["context"] == {
        "roomId": "pobRoom",
        "foo": "bar",
        "env": "staging",
    }
    assert execution["steps"] == ONBOARDING["steps"]
    for pack_id in ("Jira", "Bamboo", HIPCHAT, ARGO):
        assert await flyte.post(f"/v1/packs/{pack_id}/actions/take", status=204) is None


async def shell_answers(flyte: Speaker, payload: Any) -> Any:
    """Return what Shell is asked to do after a message, None if nothing."""
    await flyte.post("/v1/packs", {"name": "MessageSender"})
    await flyte.post("/v1/packs", {"name": "Shell", "labels": {"ABC": "123"}})
    await flyte.post(
        "/v1/packs/MessageSender/events", {"event": "SendMessage", "payload": payload}, status=202
    )
    events = (await flyte.get("/v1/audit/flows", actionPackName="Shell"))["flows"]
    if not events:
        return None
    return await flyte.post("/v1/packs/Shell.ABC.123/actions/take", status=200)


def shell(text: str) -> dict[str, Any]:
    return {"event": on("MessageSender", "SendMessage"), "command": to("Shell", "Shell", text)}


async def test_a_message_is_echoed(flyte: Speaker) -> None:
    await flyte.post(
        "/v1/flows",
        {
            "name": "one",
            "steps": [shell("echo got: {{  Event.Payload }} from:  {{ Event.Pack.Name }}")],
        },
    )
    assert (await shell_answers(flyte, "hello"))["input"] == "echo got: hello from:  MessageSender"


@pytest.mark.parametrize(
    ("payload", "text"), [("deploy app1.0", "echo 'deploy app1.0'"), ("hello", None)]
)
async def test_only_a_message_that_matches_is_echoed(
    flyte: Speaker, payload: str, text: str | None
) -> None:
    step = {
        **shell("echo '{{ Event.Payload }}'"),
        "criteria": "{{ Event.Payload|match:'^deploy' }}",
    }
    await flyte.post("/v1/flows", {"name": "two", "steps": [step]})
    action = await shell_answers(flyte, payload)
    assert (action and action["input"]) == text


async def test_the_datastore_says_which_team_a_room_belongs_to(
    api: httpx2.AsyncClient, flyte: Speaker
) -> None:
    teams = (
        b'{"teama": {"email": "teama@example.com", "room": "10000"}, "teamb": {"email":'
        b' "b@example.com", "room": "10001"}}'
    )
    files = {"value": ("teams.json", teams, "application/json")}
    assert (
        await api.put("/v1/datastore/teams", files=files, data={"description": "Who sits where"})
    ).status_code == 201
    mail = shell("mail '{{ datastore('teams').teama.email }}'")
    mail["command"]["labels"] = {"ABC": "123"}
    first = {
        **mail,
        "id": "first",
        "criteria": "{{ Event.Payload | match: datastore('teams').teama.room}}",
    }
    second = {
        "id": "second",
        "dependsOn": ["first"],
        "event": on("Shell", "Output"),
        "command": to("Shell", "Shell", "echo second"),
    }
    saved = await flyte.post("/v1/flows", {"name": "three", "steps": [first, second]})
    assert [
        warning["path"] for warning in saved["warnings"] if warning["path"].endswith("labels")
    ] == ["steps[0].command.labels"]
    action = await shell_answers(flyte, "10000")
    assert action["input"] == "mail 'teama@example.com'"
    await flyte.post(
        action["links"][0]["href"],
        {"event": "Output", "payload": {"stdout": "", "exit_code": 0}},
        status=202,
    )
    assert (await flyte.post("/v1/packs/Shell.ABC.123/actions/take", status=200))[
        "input"
    ] == "echo second"


HOLIDAYS = r"""
name: holidays
steps:
  - id: ask
    event: {packName: Slack, name: ReceivedMessage}
    context:
      Tts: "{% if Event.Payload.threadTimestamp != '' %}{{ Event.Payload.threadTimestamp }}\
        {% else %}{{ Event.Payload.timestamp }}{% endif %}"
      ChannelID: "{{ Event.Payload.channelId }}"
      Requestor: "{{ Event.Payload.user.id }}"
    criteria: "{{ Event.Payload.message|match:'^flyte(\\\\s+)holidays$' }}"
    command: {packName: Shell, name: Shell, input: "curl -s http://calendar.example/all | jq -r '.[0] | .title'"}
  - id: tell
    dependsOn: [ask]
    event: {packName: Shell, name: Output}
    criteria: "{{ Event.Payload.exit_code|integer == 0 }}"
    command:
      packName: Slack
      name: SendMessage
      input:
        channelId: "{{ Context.ChannelID }}"
        threadTimestamp: "{{ Context.Tts }}"
        message: |
          <@{{ Context.Requestor }}> the next holiday:
          {{Event.Payload.stdout}}
"""


@pytest.mark.parametrize(("thread", "expected"), [("", "1.5"), ("1.2", "1.2")])
async def test_the_answer_goes_to_the_thread_of_the_question(
    api: httpx2.AsyncClient, flyte: Speaker, thread: str, expected: str
) -> None:
    answer = await api.post(
        "/v1/flows", content=HOLIDAYS, headers={"content-type": "application/x-yaml"}
    )
    assert answer.status_code == 201, answer.text
    await flyte.post("/v1/packs", {"name": "Slack"})
    await flyte.post("/v1/packs", {"name": "Shell"})
    message = {
        "channelId": "C1",
        "user": {"id": "U7"},
        "message": "flyte  holidays",
        "timestamp": "1.5",
        "threadTimestamp": thread,
    }
    await flyte.post(
        "/v1/packs/Slack/events", {"event": "ReceivedMessage", "payload": message}, status=202
    )
    action = await flyte.post("/v1/packs/Shell/actions/take", status=200)
    output = {"event": "Output", "payload": {"stdout": "Easter", "exit_code": 0}}
    await flyte.post(action["links"][0]["href"], output, status=202)
    say = await flyte.post("/v1/packs/Slack/actions/take", status=200)
    assert say["input"] == {
        "channelId": "C1",
        "threadTimestamp": expected,
        "message": "<@U7> the next holiday:\nEaster\n",
    }
