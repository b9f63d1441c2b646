"""Numbers that no 64 bit float holds: the answer depends on the body alone, and never on who
listens.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

HUGE = "9" * 400
MAX_LENGTH = "-" + "8" * 4299

KEPT = [HUGE, MAX_LENGTH, f"[{HUGE}]", "18446744073709551616", "1e308", "-0.0", "1e-999"]
REFUSED = [
    "1e999",
    "-1e999",
    HUGE + ".5",
    "7" * 4301,
    f'{{"a": [1, {"7" * 4301}]}}',
    '[1, "1e999", 1e999]',
]

JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}

Post = Callable[[str, str], Awaitable[httpx2.Response]]


@pytest.fixture
async def flow(api: httpx2.AsyncClient) -> None:
    """A pack P whose event E begins a flow of three steps, of which the second reads the
    payload.
    """
    await api.post("/v1/packs", json={"name": "P", "commands": [{"name": "C"}]})
    event = {"packName": "P", "name": "E"}
    command = {"packName": "P", "name": "C"}
    steps = [
        {"id": "blind", "event": event, "command": {**command, "input": "{{ Event.Name }}"}},
        {
            "id": "reads",
            "event": event,
            "command": {**command, "input": "{{ Event.Payload|first }}"},
        },
        {
            "id": "after",
            "dependsOn": ["blind"],
            "event": {**event, "name": "D"},
            "command": command,
        },
    ]
    answer = await api.post("/v1/flows", json={"name": "f", "steps": steps})
    assert answer.status_code == 201, answer.text


@pytest.fixture
def send(api: httpx2.AsyncClient, flow: None) -> Post:
    async def send(name: str, payload: str) -> httpx2.Response:
        return await api.post(
            "/v1/packs/P/events",
            content=f'{{"event": "{name}", "payload": {payload}}}',
            headers=JSON,
        )

    return send


async def states(api: httpx2.AsyncClient) -> dict[str, str]:
    actions = (await api.get("/v1/actions")).json()["actions"]
    return {action["stepId"]: action["state"] for action in actions}


@pytest.mark.parametrize("number", KEPT, ids=lambda text: text[:12])
async def test_a_number_is_accepted_exactly_whoever_listens_and_fails_only_the_step_that_reads_it(
    number: str, api: httpx2.AsyncClient, send: Post
) -> None:
    for name in ("E", "Nobody"):
        answer = await send(name, number)
        assert answer.status_code == 202, answer.text
        kept = await api.get(answer.headers["location"])
        assert number.encode().replace(b" ", b"") in kept.content.replace(b" ", b"")
        assert (
            await api.get(answer.headers["location"], headers={"Accept": "application/yaml"})
        ).status_code == 200
        if name == "E":
            outcomes = {each["stepId"]: each["outcome"] for each in kept.json()["decisions"]}
            assert outcomes["blind"] == "ran"
            assert outcomes["reads"] == ("failed" if len(number) > 300 else "ran")


@pytest.mark.parametrize("number", KEPT, ids=lambda text: text[:12])
async def test_a_number_as_a_result_ends_the_action(
    number: str, api: httpx2.AsyncClient, send: Post
) -> None:
    await send("E", "{}")
    (action, *_) = (await api.post("/v1/packs/P/actions/take?max=1")).json()["actions"]
    address = action["links"][0]["href"]
    for _ in range(2):  # the same result again changes nothing
        answer = await api.post(
            address, content=f'{{"event": "D", "payload": {number}}}', headers=JSON
        )
        assert answer.status_code == 202, answer.text
    assert (await states(api))["blind"] == "SUCCESS"
    assert (await states(api))["after"] == "NEW"


@pytest.mark.parametrize("number", REFUSED, ids=lambda text: text[:12])
async def test_a_number_that_cannot_be_kept_is_refused_alike_everywhere_with_its_place(
    number: str, api: httpx2.AsyncClient, send: Post
) -> None:
    await send("E", "{}")
    action = (await api.post("/v1/packs/P/actions/take")).json()
    result = await api.post(
        action["links"][0]["href"], content=f'{{"event": "D", "payload": {number}}}', headers=JSON
    )
    command = f'{{"packName": "P", "name": "C", "input": {number}}}'
    step = f'{{"id": "a", "event": {{"packName": "P", "name": "E"}}, "command": {command}}}'
    flow = await api.post("/v1/flows", content=f'{{"name": "g", "steps": [{step}]}}', headers=JSON)
    schema = f'{{"name": "Q", "events": [{{"name": "E", "payloadSchema": {{"const": {number}}}}}]}}'
    pack = await api.post("/v1/packs", content=schema, headers=JSON)
    for answer in (await send("E", number), await send("Nobody", number), result, flow, pack):
        assert answer.status_code == 400
        assert "is out of range: whole numbers have 4299 digits at most" in answer.json()["detail"]
        assert answer.json()["problems"][0]["line"] == 1


@pytest.mark.parametrize("number", [HUGE, MAX_LENGTH])
async def test_flows_and_packs_keep_a_number_exactly_and_hand_it_out_so(
    number: str, api: httpx2.AsyncClient, send: Post
) -> None:
    command = f'{{"packName": "P", "name": "Exact", "input": {{"n": {number}}}}}'
    text = (
        '{"name": "g", "steps": [{"id": "a", "event": {"packName": "P", "name": "G"},'
        f' "command": {command}}}]}}'
    )
    for content_type in (JSON, YAML):
        answer = await api.post("/v1/flows", content=text, headers=content_type)
        assert answer.status_code == 201, answer.text
    assert number.encode() in (await api.get("/v1/flows/g")).content
    await send("G", "1")
    assert number.encode() in (await api.post("/v1/packs/P/actions/take?actionName=Exact")).content
    schema = f'{{"name": "Q", "events": [{{"name": "E", "payloadSchema": {{"const": {number}}}}}]}}'
    assert (await api.post("/v1/packs", content=schema, headers=JSON)).status_code == 201
    assert number.encode() in (await api.get("/v1/packs/Q")).content


async def test_yaml_says_the_same_of_the_same_numbers(api: httpx2.AsyncClient, flow: None) -> None:
    async def status(payload: str) -> int:
        body = f"event: E\npayload: {payload}\n"
        return (await api.post("/v1/packs/P/events", content=body, headers=YAML)).status_code

    assert [await status(number) for number in (HUGE, MAX_LENGTH, "[1e308]")] == [202, 202, 202]
    assert [
        await status(number) for number in ("1e999", "7" * 4301, "0x" + "f" * 4000, ".inf", ".nan")
    ] == [400] * 5


@pytest.mark.parametrize("number", [HUGE, MAX_LENGTH, "[1e308]"], ids=lambda text: text[:12])
async def test_a_hook_takes_what_a_pack_may_send(number: str, api: httpx2.AsyncClient) -> None:
    await api.post("/v1/hooks", json={"name": "open", "scheme": "none"})
    answer = await api.post("/v1/hooks/open", content=number, headers=JSON)
    assert answer.status_code == 202, answer.text
    assert number.encode() in (await api.get(answer.headers["location"])).content
    assert (await api.post("/v1/hooks/open", content="1e999", headers=JSON)).status_code == 400


async def test_a_datastore_item_with_such_a_number_fails_only_the_step_that_reads_it(
    api: httpx2.AsyncClient, flow: None
) -> None:
    for key, number in (("huge", HUGE), ("infinite", "1e999")):
        answer = await api.put(
            f"/v1/datastore/{key}", files={"value": ("n", number.encode(), "application/json")}
        )
        assert answer.status_code == 201
        assert (await api.get(f"/v1/datastore/{key}")).text == number
        event: dict[str, Any] = {"packName": "P", "name": "Read"}
        command = {"packName": "P", "name": "C", "input": f"{{{{ datastore('{key}') }}}}"}
        steps = [
            {"id": "reads", "event": event, "command": command},
            {"id": "blind", "event": event, "command": {**command, "input": 1}},
        ]
        assert (await api.post("/v1/flows", json={"name": key, "steps": steps})).status_code == 201
    sent = await api.post("/v1/packs/P/events", json={"event": "Read"})
    assert sent.status_code == 202
    decisions = (await api.get(sent.headers["location"])).json()["decisions"]
    assert (
        sorted((each["stepId"], each["outcome"]) for each in decisions)
        == [("blind", "ran")] * 2 + [("reads", "failed")] * 2
    )


ID = 7615917337495251231
"""A number of 64 bits that no float of 64 bits equals."""


async def test_a_large_integer_passes_criteria_context_and_input_as_it_is(
    api: httpx2.AsyncClient, send: Post
) -> None:
    pack, command = {"packName": "P"}, {"packName": "P", "name": "C"}
    given = {"id": "{{ Event.Payload.id|integer }}", "text": "{{ Event.Payload.id }}", "fixed": ID}
    first = {
        "id": "first",
        "event": {**pack, "name": "Found"},
        "criteria": f"{{{{ Event.Payload.id|integer == {ID} }}}}",
        "context": {"id": "{{ Event.Payload.id|integer }}"},
        "command": {**command, "input": given},
    }
    then = {
        "id": "then",
        "dependsOn": ["first"],
        "event": {**pack, "name": "D"},
        "criteria": f"{{{{ Context.id|integer == {ID} }}}}",
        "command": {**command, "input": "{{ Context.id }}"},
    }
    answer = await api.post("/v1/flows", json={"name": "ids", "steps": [first, then]})
    assert answer.status_code == 201, answer.text
    await send("Found", f'{{"id": {ID + 1}}}')
    await send("Found", f'{{"id": {ID}}}')
    (action,) = (await api.post("/v1/packs/P/actions/take?max=9")).json()["actions"]
    assert action["input"] == {"id": str(ID), "text": f"{ID}.000000", "fixed": ID}
    await api.post(action["links"][0]["href"], json={"event": "D", "payload": None})
    (action,) = (await api.post("/v1/packs/P/actions/take?max=9")).json()["actions"]
    assert action["input"] == str(ID)
