"""A server on the MongoDB database of the original, with whatever that has written; and the
original on ours again.
"""

import signal
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from bson import Binary, ObjectId
from pymongo import AsyncMongoClient

from flyteops.storage import open_store
from flyteops.storage.dump import move
from flyteops.storage.query import ExecutionFilter
from flyteops.testing.sample import NOTHING, Sample, always
from tests.mongodb import place

pytestmark = pytest.mark.mongodb

ZERO = datetime(1, 1, 1, tzinfo=UTC)
NOW = datetime.now(UTC).replace(microsecond=123000)

SHELL, CHAT = "Shell.env.prod", "Chat"

STEPS = [
    {
        "id": "ask",
        "dependsOn": None,
        "event": {"name": "ReceivedMessage", "packName": "Chat", "packLabels": None},
        "context": {"channel": "{{ Event.Payload.channelId }}"},
        "criteria": "{{ Event.Payload.message|match:'^time$' }}",
        "command": {
            "name": "Run",
            "packName": "Shell",
            "packLabels": {"env": "prod"},
            "input": {"command": "date", "times": 3.0},
        },
    },
    {
        "id": "answer",
        "dependsOn": ["ask"],
        "event": {"name": "Output", "packName": "Shell", "packLabels": {}},
        "context": {},
        "criteria": "",
        "command": {
            "name": "SendMessage",
            "packName": "Chat",
            "packLabels": None,
            "input": {
                "channelId": "{{ Context.channel }}",
                "message": "It is {{ Event.Payload.stdout }}",
            },
        },
    },
]

FIELDS = [
    "_id",
    "name",
    "packName",
    "packLabels",
    "input",
    "state",
    "states",
    "correlationId",
    "flowName",
    "flowUUID",
    "stepId",
]
FIELDS += ["context", "trigger"]
"""What an action of the original has, and the result once it has one."""

EVENT_FIELDS = {"name", "pack", "payload", "createdAt", "receivedAt"}


def lowered(value, *, is_input=False):
    """Return a value with the names of its fields in lower case, as the original's driver writes
    some.
    """
    if isinstance(value, list):
        return [lowered(each) for each in value]
    if not isinstance(value, dict) or is_input:
        return value
    return {
        key.lower(): lowered(each, is_input=key in ("input", "context", "packLabels"))
        for key, each in value.items()
    }


def pack(name, **labels):
    pack_id = ".".join([name, *(f"{key}.{value}" for key, value in labels.items())])
    commands = [
        {"name": "Run", "events": ["Output"], "links": [{"href": "http://x/help", "rel": "help"}]}
    ]
    events = [{"name": "Output", "links": None}]
    ref = {"_id": pack_id, "name": name, "labels": labels or None}
    return ref, {
        **ref,
        "commands": commands,
        "events": events,
        "lastSeen": NOW,
        "links": [{"href": "http://x", "rel": "help"}],
    }


def event(name, sender, payload, at=NOW):
    return {
        "name": name,
        "pack": pack(*sender[:1], **sender[1])[0],
        "payload": payload,
        "createdAt": ZERO,
        "receivedAt": at,
    }


ASKED = event(
    "ReceivedMessage", ("Chat", {}), {"message": "time", "channelId": "general", "n": 1.0}
)
OUTPUT = event("Output", ("Shell", {"env": "prod"}), {"stdout": "10:00"})


def action(number, run, step, states, **fields):
    """Return an action of the original, which came to its states a minute after each other."""
    at = NOW - timedelta(minutes=100 - 10 * number)
    history = [
        {"value": value, "time": at + timedelta(minutes=place)}
        for place, value in enumerate(states)
    ]
    command = STEPS[step]["command"]
    return {
        "_id": f"{number:024x}",
        "name": command["name"],
        "packName": command["packName"],
        "packLabels": command["packLabels"],
        "input": command["input"],
        "state": history[-1],
        "states": history,
        "correlationId": run,
        "flowName": "time",
        "flowUUID": "version-1",
        "stepId": STEPS[step]["id"],
        "context": {"channel": "general"},
        "trigger": ASKED if step == 0 else OUTPUT,
        **({"result": OUTPUT} if states[-1] == "SUCCESS" else {}),
        **fields,
    }


WAITING = action(1, "run-1", 0, ["NEW"])
RUNNING = action(2, "run-2", 0, ["NEW", "PENDING"])
DONE = action(3, "run-3", 0, ["NEW", "PENDING", "SUCCESS"])
JOINED = action(4, "run-3", 1, ["NEW", "PENDING", "SUCCESS"])
EXPIRED = action(5, "run-4", 0, ["NEW", "PENDING", "SUCCESS"])


@pytest.fixture
async def database():
    """The database of an installation of the original that has stopped: (URL, database)."""
    async with place() as url, AsyncMongoClient(url, tz_aware=True) as client:
        database = client.get_default_database()
        await database.pack.insert_many([pack("Shell", env="prod")[1], pack("Chat")[1]])
        first = {
            "uuid": "version-1",
            "name": "time",
            "description": "tells the time",
            "steps": lowered(STEPS),
        }
        second = {"uuid": "version-2", "name": "time", "description": "tells nothing", "steps": []}
        other = {"uuid": "other-1", "name": "other", "description": "", "steps": STEPS}
        await database.flow.insert_many(
            [{"_id": ObjectId(), **second}, {"_id": ObjectId(), **other}]
        )
        await database.flowHistory.insert_many(
            [{"_id": ObjectId(), **each} for each in (first, second, other)]
        )
        await database.action.insert_many([WAITING, RUNNING, DONE, JOINED])
        await database.audit.insert_many([WAITING, RUNNING, DONE, JOINED, EXPIRED])
        await database.datastore.insert_one(
            {
                "_id": "key",
                "contentType": "text/plain",
                "description": "",
                "value": Binary(b"\x00\xff"),
            }
        )
        await database.action.create_index([("correlationId", 1)])
        await database.action.create_index(
            [("packName", 1), ("state.value", 1), ("name", 1), ("state.time", 1)]
        )
        await database.action.create_index(
            [("state.time", 1)], name="old", expireAfterSeconds=100_000
        )
        yield url, database


@pytest.fixture
def started(serve, database):
    """Start the server on it. Returns a client of it."""

    def start():
        server = serve(FLYTE_STORE=database[0])
        url = server.read_until(r"listens on (\S+) ")[1]
        return server, httpx2.AsyncClient(base_url=f"{url}/v1", timeout=20)

    return start


def stop(server):
    server.process.send_signal(signal.SIGTERM)
    code, _, said = server.end()
    assert code == 0, said
    return said


def wait_for_takeover(server):
    """Wait until everything is taken over, which is done in the background and ends with the
    indexes.
    """
    server.read_until(r"4 executions of an earlier server were taken over")


async def answer(response, status):
    assert response.status_code == status, response.text
    return response.json() if response.content else None


async def take(client, pack_id):
    return await answer(await client.post(f"/packs/{pack_id}/actions/take"), 200)


async def finish(client, pack_id, taken, name, payload):
    href = taken["links"][0]["href"]
    await answer(
        await client.post(
            href, json={"event": name, "payload": payload, "createdAt": "0001-01-01T00:00:00Z"}
        ),
        202,
    )


async def test_everything_goes_on_where_the_original_stopped(started, database):
    server, client = started()
    async with client:
        packs = await answer(await client.get("/packs"), 200)
        assert [each["id"] for each in packs["packs"]] == [CHAT, SHELL]
        flows = await answer(await client.get("/flows"), 200)
        assert [each["name"] for each in flows["flows"]] == ["other", "time"]
        assert (await client.get("/datastore/key")).content == b"\x00\xff"
        listed = (await answer(await client.get("/audit/flows"), 200))["flows"]
        assert [each["correlationId"] for each in listed] == ["run-4", "run-3", "run-2", "run-1"]
        assert [step["id"] for step in listed[0]["steps"]] == ["ask", "answer"]
        assert listed[1]["actions"]["ask"]["result"]["payload"] == {"stdout": "10:00"}

        taken = await take(client, SHELL)
        assert taken["input"] == {"command": "date", "times": 3}
        assert "0" * 23 + "1" in taken["links"][0]["href"]
        await finish(client, SHELL, taken, "Output", {"stdout": "11:00"})
        # What was handed out by the original, and answered here.
        href = f"{client.base_url}packs/{SHELL}/actions/{RUNNING['_id']}/result"
        await finish(client, SHELL, {"links": [{"href": href}]}, "Output", {"stdout": "12:00"})
        for time in ("11:00", "12:00"):
            taken = await take(client, CHAT)
            assert taken["input"] == {"channelId": "general", "message": f"It is {time}"}
            await finish(client, CHAT, taken, "Sent", None)
        for run in ("run-1", "run-2"):
            found = await answer(await client.get(f"/audit/flows/{run}"), 200)
            assert [each["state"]["value"] for each in found["actions"].values()] == [
                "SUCCESS",
                "SUCCESS",
            ]
            assert [each["value"] for each in found["actions"]["ask"]["states"]] == [
                "NEW",
                "PENDING",
                "SUCCESS",
            ]
        of_step = await answer(
            await client.get("/audit/flows", params={"stepId": "answer", "actionPackName": "Chat"}),
            200,
        )
        assert [each["correlationId"] for each in of_step["flows"]] == ["run-2", "run-1", "run-3"]
    wait_for_takeover(server)
    stop(server)


async def test_what_is_written_has_the_shape_that_the_original_knows(started, database):
    server, client = started()
    async with client:
        flow = {"name": "new", "steps": [{**STEPS[0], "dependsOn": [], "context": {}}]}
        await answer(await client.post("/flows", json=flow), 201)
        await answer(
            await client.post(
                f"/packs/{CHAT}/events",
                json={"event": "ReceivedMessage", "payload": {"message": "time"}},
            ),
            202,
        )
        await finish(
            client, SHELL, await take(client, SHELL), "Output", {"big": 2**70, "$a": {"b.c": 1.0}}
        )
    wait_for_takeover(server)
    stop(server)
    _, store = database
    async for document in store.action.find({}):
        assert [key for key in document if key not in ("flyte", "result")] == FIELDS
        assert document["state"] == document["states"][-1]
        assert all(
            each["value"] in ("NEW", "PENDING", "SUCCESS", "FATAL") for each in document["states"]
        )
        assert all(isinstance(each["time"], datetime) for each in document["states"])
        for each in (document["trigger"], document.get("result", document["trigger"])):
            assert set(each) - {"flyte"} == EVENT_FIELDS
            assert set(each["pack"]) == {"_id", "name", "labels"}
        copy = await store.audit.find_one({"_id": document["_id"]})
        assert {**copy, "flyte": None} == {**document, "flyte": None}
    saved = await store.flow.find_one({"name": "new"})
    assert [key for key in saved if key != "flyte"] == [
        "_id",
        "uuid",
        "name",
        "description",
        "steps",
    ]
    assert saved["steps"][0]["command"]["input"] == {"command": "date", "times": 3}
    assert (await store.flowHistory.find_one({"uuid": saved["uuid"]}))["steps"] == saved["steps"]
    kept = (await store.action.index_information()).values()
    assert [each["expireAfterSeconds"] for each in kept if "expireAfterSeconds" in each] == [
        31_557_600
    ]


async def test_what_the_original_wrote_can_be_moved_to_another_store(database, tmp_path):
    async with (
        open_store(database[0]) as store,
        open_store(f"sqlite:///{tmp_path}/flyte.db") as other,
    ):
        await move(store, other, lambda *_: None)
        runs = list(await other.list_executions(ExecutionFilter(), 0, 10))
        assert runs == list(await store.list_executions(ExecutionFilter(), 0, 10))
        assert [run.correlation_id for run in runs] == ["run-4", "run-3", "run-2", "run-1"]
        assert runs[0].actions[0].result.payload == b'{"stdout":"10:00"}'
        assert await other.finish(RUNNING["_id"], Sample().event("Output"), always(NOTHING))


async def test_what_the_original_did_meanwhile_is_gone_on_with(started, database):
    server, client = started()
    async with client:
        await take(client, SHELL)
    stop(server)
    _, store = database
    # The original finds what it knows: it takes results, hands out actions and creates some.
    finished = {
        **RUNNING,
        "state": DONE["state"],
        "states": [*RUNNING["states"], DONE["state"]],
        "result": OUTPUT,
    }
    await store.action.replace_one({"_id": RUNNING["_id"]}, finished)
    following = action(6, "run-2", 1, ["NEW"])
    await store.action.insert_one(following)
    done = {"value": "SUCCESS", "time": NOW + timedelta(minutes=1)}
    await store.action.update_one(
        {"_id": WAITING["_id"]},
        {"$set": {"state": done, "result": OUTPUT}, "$push": {"states": done}},
    )

    server, client = started()
    async with client:
        taken = await take(client, CHAT)
        assert following["_id"] in taken["links"][0]["href"]
        await finish(client, CHAT, taken, "Sent", None)
        assert (await client.post(f"/packs/{SHELL}/actions/take")).status_code == 204
        pending = await answer(await client.get("/actions", params={"state": "PENDING"}), 200)
        assert pending["actions"] == []
        first = await answer(await client.get("/audit/flows/run-1"), 200)
        assert [each["value"] for each in first["actions"]["ask"]["states"]] == [
            "NEW",
            "PENDING",
            "SUCCESS",
        ]
        second = await answer(await client.get("/audit/flows/run-2"), 200)
        assert [each["state"]["value"] for each in second["actions"].values()] == [
            "SUCCESS",
            "SUCCESS",
        ]
    stop(server)
