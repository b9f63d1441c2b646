"""A server whose PostgreSQL is away, slow, full, read-only, not as it should be, or behind a
proxy.
"""

import asyncio
import itertools
import signal
import time
from collections import Counter

import httpx2
import pytest

from tests.e2e.mishap import Mishap, is_told_at_once, prepare, wait_for
from tests.e2e.node import Node, only_line
from tests.postgres import bouncer, database, execute, place, url_of

pytestmark = [pytest.mark.postgres, pytest.mark.alone, pytest.mark.timeout(180)]

EVENT = {"event": "Asked", "payload": {}}


@pytest.fixture
async def postgres():
    async with database() as postgres:
        yield postgres


@pytest.fixture
async def serve():
    """Say how to start a server that ends with the test."""
    started = []

    async def serve(store, **environ):
        started.append(Node(store, **environ))
        await started[-1].start()
        return started[-1]

    yield serve
    for server in started:
        await server.end(signal.SIGKILL)


@pytest.fixture
async def client():
    async with httpx2.AsyncClient(timeout=40) as client:
        yield client


async def ready(client, server):
    """Return why the server is not ready, "" if it is."""
    answer = await client.get(f"{server.url}/../health/ready")
    body = answer.json()
    assert (answer.status_code, body["status"]) in ((200, "ready"), (503, "not ready"))
    return " ".join(body.get("reasons", ()))


async def until_ready(client, server, seconds=20):
    async def is_ready():
        return not await ready(client, server)

    await wait_for(is_ready, seconds)


async def until_not_ready(client, server, seconds=20):
    async def is_not_ready():
        return bool(await ready(client, server))

    await wait_for(is_not_ready, seconds)
    return await ready(client, server)


async def is_refused(client, server):
    """Tell whether an event is refused for now, with the advice to come again."""
    answer = await client.post(f"{server.url}/packs/Source/events", json=EVENT)
    return answer.status_code == 503 and answer.headers["retry-after"].isdigit()


async def is_accepted(client, server):
    answer = await client.post(f"{server.url}/packs/Source/events", json=EVENT)
    return answer.status_code == 202


async def test_a_server_waits_for_a_database_that_is_not_there_yet(postgres, serve, client):
    server = await serve(postgres.url)
    assert (await client.get(f"{server.url}/../health/live")).status_code == 200
    assert "Connect" in await ready(client, server)
    assert await is_refused(client, server)
    assert (await client.get(f"{server.url}/flows")).status_code == 503
    assert (await client.get(server.url)).status_code == 200
    await asyncio.sleep(2)  # it looks again several times
    await postgres.start()
    await until_ready(client, server)
    await prepare(client, server)
    assert await is_accepted(client, server)
    (line,) = server.warnings
    assert "until then, requests get 503" in line
    assert await server.end() == 0


async def test_a_server_that_waits_for_its_database_stops_when_told(postgres, serve):
    server = await serve(postgres.url)
    assert await server.end() == 0


async def test_nothing_that_was_acknowledged_is_lost_when_the_database_crashes_under_load(
    postgres, serve, client
):
    await postgres.start()
    servers = [await serve(postgres.url) for _ in range(2)]
    await prepare(client, *servers)

    async def crash():
        for _ in range(3):
            await asyncio.sleep(0.7)
            await postgres.stop(signal.SIGQUIT)
            assert await until_not_ready(client, servers[0])
            assert await is_refused(client, servers[0])
            await postgres.start()
            await until_ready(client, servers[0])

    await Mishap(servers, client).run(crash)
    for server in servers:
        assert "Traceback" not in server.log
        assert await server.end() == 0
        assert len(server.warnings) < 25, server.log


async def test_a_database_that_hangs_lets_nobody_wait_for_ever(postgres, serve, client):
    await postgres.start()
    server = await serve(postgres.url)
    await prepare(client, server)
    with postgres.frozen():
        began = time.monotonic()
        assert "not answered" in await ready(client, server)
        assert time.monotonic() - began < 5
        assert all(await asyncio.gather(*(is_refused(client, server) for _ in range(50))))
        assert time.monotonic() - began < 35
    await until_ready(client, server)
    assert await is_accepted(client, server)
    assert "Traceback" not in server.log


class Load:
    """Clients that note each answer and never insist, and packs that end what they are given."""

    def __init__(self, client, server):
        self._client, self._url = client, server.url
        self._numbers = itertools.count()
        self.codes = {}
        self.is_calm = self.is_over = False

    async def send(self, number):
        event = {"event": "Asked", "payload": number}
        key = {"Idempotency-Key": str(number)}
        answer = await self._client.post(
            f"{self._url}/packs/Source/events", json=event, headers=key
        )
        return "accepted" if answer.status_code == 202 else answer.json()["code"]

    async def send_many(self):
        while not self.is_calm:
            number = next(self._numbers)
            self.codes[number] = await self.send(number)
            await asyncio.sleep(0.02)

    async def work(self):
        while not self.is_over:
            answer = await self._client.post(
                f"{self._url}/packs/Worker/actions/take", params={"wait": 1}
            )
            if answer.status_code == 200:
                await self.end(answer.json()["links"][0]["href"])

    async def end(self, href):
        async def is_ended():
            return (await self._client.post(href, json={"event": "Done"})).status_code == 202

        await wait_for(is_ended, 60)

    async def stored(self):
        """Return how often each number is stored."""
        found, page = [], True
        while page:
            path = f"{self._url}/audit/events?event=Asked&limit=500&start={len(found)}"
            page = (await self._client.get(path)).json()["events"]
            found += [event["payload"] for event in page]
        return Counter(found)

    async def is_done(self):
        states = [{"state": state, "limit": 1} for state in ("NEW", "PENDING")]
        found = [await self._client.get(f"{self._url}/actions", params=which) for which in states]
        return not any(each.json()["actions"] for each in found)


ALLOWED = {"accepted": (1,), "outcome-unknown": (0, 1), "unavailable": (0,), "busy": (0,)}
"""How often an event may be stored that was answered so."""


@pytest.mark.timeout(240)
async def test_every_answer_is_true_and_no_command_is_left_when_the_database_is_frozen_under_load(
    postgres, serve, client
):
    await postgres.start()
    server = await serve(postgres.url)
    await prepare(client, server)
    load = Load(client, server)
    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(load.send_many()) for _ in range(8)]
        for _ in range(8):
            group.create_task(load.work())
        await asyncio.sleep(1)
        with postgres.frozen():
            await asyncio.sleep(25)
        await until_ready(client, server)
        load.is_calm = True
        await asyncio.wait(senders)
        found = await load.stored()
        assert not [
            (number, code)
            for number, code in load.codes.items()
            if found[number] not in ALLOWED[code]
        ]
        unknown = [number for number, code in load.codes.items() if code == "outcome-unknown"]
        assert {await load.send(number) for number in unknown} <= {"accepted"}
        assert set((await load.stored()).values()) == {1}
        await wait_for(load.is_done, 60)
        load.is_over = True


READ_ONLY = (
    ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
    ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
)

# Filling a real disk needs one; this is the error by which PostgreSQL tells of it.
FULL = (
    [
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER full_event BEFORE INSERT ON flyte_event EXECUTE FUNCTION fill()",
        "CREATE TRIGGER full_number BEFORE UPDATE ON flyte_number EXECUTE FUNCTION fill()",
    ],
    ["DROP FUNCTION fill CASCADE"],
)


@pytest.mark.parametrize(("fault", "words"), [(READ_ONLY, "read-only"), (FULL, "No space left")])
async def test_a_database_that_cannot_be_written_is_told_and_works_again_afterwards(
    postgres, serve, client, fault, words
):
    begin, end = fault
    await postgres.start()
    server = await serve(postgres.url)
    await prepare(client, server)
    await postgres.execute(*begin)
    assert words in await until_not_ready(client, server)
    assert await is_refused(client, server)
    assert (await client.get(f"{server.url}/flows")).status_code == 200
    await postgres.execute(*end)
    await until_ready(client, server)
    assert await is_accepted(client, server)
    assert "Traceback" not in server.log


MADE_OTHERWISE = (
    "DROP INDEX flyte_action_waiting; CREATE INDEX flyte_action_waiting ON flyte_action (seq) WITH"
    " (fillfactor = 50)"
)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE flyte_number SET value = 99 WHERE name = 'schema'",
            "written by a newer Flyte (schema 99",
        ),
        (
            MADE_OTHERWISE,
            "is now: CREATE INDEX flyte_action_waiting ON flyte_action USING btree (seq) WITH",
        ),
        ("DROP INDEX flyte_action_due", "index flyte_action_due is missing"),
        ("DROP TABLE flyte_attempt", "column flyte_attempt.number is missing"),
        (
            "ALTER TABLE flyte_event ALTER name TYPE varchar(10)",
            "column flyte_event.name is now: character varying(10)",
        ),
        ("ALTER TABLE flyte_pack OWNER TO flyte", "right to SELECT in flyte_pack is now: false"),
    ],
)
async def test_tables_that_somebody_has_changed_stop_the_start_with_one_line(statement, words):
    async with place() as url:
        server = Node(url)
        await server.start()
        assert await server.end() == 0
        name = url.partition("//")[2].partition(":")[0]
        await execute(f"SET search_path = {name}; {statement}")
        assert words in await only_line(url)


async def test_a_database_that_does_not_let_the_server_in_stops_the_start_with_one_line(postgres):
    await postgres.start()
    async with place(postgres.url) as url:
        assert "password authentication failed" in await only_line(url.replace("secret", "wrong"))
        assert "does not exist" in await only_line(f"{url}_else")
        assert "no schema has been selected" in await only_line(f"{url}?search_path=nowhere")


async def test_a_database_that_somebody_else_uses_is_left_alone(postgres):
    await postgres.start()
    await postgres.execute("CREATE TABLE flyte_pack (pilot text)")
    assert '"flyte_pack" already exists' in await only_line(postgres.url)


async def test_an_installation_in_another_schema_of_the_search_path_is_left_alone(postgres, serve):
    await postgres.start()
    await serve(postgres.url)
    async with place(postgres.url) as url:
        server = await serve(url)
        assert "with 0 flows and 0 packs" in server.log
        assert await server.end() == 0


async def test_servers_behind_a_proxy_that_pools_transactions_tell_each_other_at_once(
    serve, client
):
    async with place() as url, bouncer(url) as proxy_url:
        one, two = [await serve(proxy_url, FLYTE_STORE_DIRECT_URL=url) for _ in range(2)]
        await prepare(client, one)
        assert await is_told_at_once(client, one, two)


async def test_a_wrong_direct_url_is_told_and_the_servers_work_nevertheless(serve, client):
    async with place() as url, bouncer(url) as proxy_url:
        server = await serve(proxy_url, FLYTE_STORE_DIRECT_URL=url_of(url, host="127.0.0.1:1"))
        await prepare(client, server)
        assert await is_accepted(client, server)
        assert await server.end() == 0
        (line,) = server.warnings
        assert "Listening to other servers failed" in line
