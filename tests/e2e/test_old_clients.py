"""The clients in production for years work unmodified: from registration to the result of an
action.
"""

import json

import pytest

from tests.e2e.old_clients import GoClient, OldestGoClient, PythonClient, ZeroTimeGoClient, exchange

pytestmark = pytest.mark.slow

GO_REGISTRATION = (
    b'{"name":"T","labels":{"env":"dev","x":"y=z"},"events":[{"name":"Echoed"}],'
    b'"commands":[{"name":"Echo","events":["Echoed"]},{"name":"Boom","events":[]}],'
    b'"links":[{"href":"http://help/","rel":"help"}]}'
)
PYTHON_REGISTRATION = (
    b'{"name": "T", "labels": {"env": "dev", "x": "y=z"}, "links": [], "commands": [{"name":'
    b' "Echo", "events": ["Echoed"], "links": []}], "events": [{"name": "Spont", "links": []},'
    b' {"name": "Echoed", "links": []}, {"name": "Echoed", "links": []}]}'
)
EVENTS_ONLY = (
    b'{"name":"Ticker","events":[{"name":"Tick"}],"links":[{"href":"http://help/","rel":"help"}]}'
)
NO_EVENTS = (
    b'{"name":"Quiet","events":null,"commands":[{"name":"Echo","events":[]}],'
    b'"links":[{"href":"http://help/","rel":"help"}]}'
)

FLOW = b"""
name: echo
steps:
  - id: first
    event: {name: Spont, packName: T}
    command: {name: Echo, packName: T, packLabels: {env: dev}, input: {said: "{{ Event.Payload.a }}"}}
  - id: second
    dependsOn: [first]
    event: {name: Echoed, packName: T}
    command: {name: Echo, packName: T, input: "{{ Event.Payload.b }}"}
"""


@pytest.fixture
def flow(server):
    host = server.removeprefix("http://")
    head = [
        "POST /v1/flows HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/x-yaml",
        f"Content-Length: {len(FLOW)}",
    ]
    assert exchange(server, head, FLOW).status == 201


CLIENTS = {
    "go of 2022": (GoClient, GO_REGISTRATION),
    "go of 2022 with a token": (lambda root: GoClient(root, "a.b.c"), GO_REGISTRATION),
    "go of 2018 that follows Location": (OldestGoClient, GO_REGISTRATION),
    "go that sends the zero time": (ZeroTimeGoClient, GO_REGISTRATION),
    "python": (PythonClient, PYTHON_REGISTRATION),
    "python with a slash at the end of the URL": (
        lambda root: PythonClient(root + "/"),
        PYTHON_REGISTRATION,
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_registers_sends_takes_and_completes(server, flow, name):
    make, registration = CLIENTS[name]
    client = make(server)
    client.start(registration)
    assert client.pack["id"] == "T.env.dev.x.y=z"

    assert client.take().status == 204
    sent = client.send("Spont", '{"a": "\\u003cb\\u003e"}')
    assert (sent.status, sent.body) == (202, b"")

    taken = client.take()
    assert taken.status == 200
    action = taken.json()
    assert action["command"] == "Echo"
    assert action["input"] == {"said": "<b>"}
    assert client.complete(action, "Echoed", '{"b": 5}').status == 202

    second = client.take().json()
    assert second["input"] == "5.000000"
    assert client.complete(second, "FATAL", '"bang"').status == 202
    empty = client.take()
    assert (empty.status, empty.body) == (204, b"")


def test_an_event_with_the_zero_time_has_none(server, flow):
    client = ZeroTimeGoClient(server)
    client.start(GO_REGISTRATION)
    client.send("Spont", '{"a": 1}')
    (execution,) = client._request("GET", server + "/v1/audit/flows").json()["flows"]
    (action,) = execution["actions"].values()
    assert action["trigger"]["createdAt"] == action["trigger"]["receivedAt"]


def test_a_pack_without_commands_only_sends(server):
    client = OldestGoClient(server)
    client.start(EVENTS_ONLY)
    assert client.send("Tick", '{"time":"2026-11-23T13:49:58+01:00"}').status == 202


def test_a_pack_without_events_registers(server):
    client = GoClient(server)
    client.start(NO_EVENTS)
    assert client.take().status == 204


def test_registering_again_after_a_restart_of_the_pack_is_the_same_pack(server):
    for _ in range(2):
        GoClient(server).start(GO_REGISTRATION)
    packs = (
        GoClient(server)
        ._request("GET", server + "/v1/packs", accept="application/json")
        .json()["packs"]
    )
    assert [pack["id"] for pack in packs] == ["T.env.dev.x.y=z"]


def test_links_are_on_the_host_that_the_client_called(server):
    head = ["GET /v1 HTTP/1.1", "Host: api:8080", "X-Forwarded-Proto: https"]
    links = exchange(server, head, b"").json()["links"]
    assert all(link["href"].startswith("https://api:8080/") for link in links)


def test_the_health_link_answers(server):
    links = json.loads(exchange(server, ["GET /v1 HTTP/1.1", "Host: " + server[7:]], b"").body)[
        "links"
    ]
    health = next(link["href"] for link in links if link["rel"].endswith("info/health"))
    answer = exchange(health, ["GET /health HTTP/1.1", "Host: " + server[7:]], b"")
    assert (answer.status, answer.body) == (200, b"")
