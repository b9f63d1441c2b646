# ruff: noqa: ASYNC110, ASYNC240 - a test may block its loop for a file, which tells nobody when it changes
"""What is particular to the SQLite backend: its file, its faults, and how it finds things."""

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyteops.errors import (
    BusyError,
    ConflictError,
    InputError,
    SettingsError,
    StoreError,
    UnavailableError,
)
from flyteops.model import ActionState, DataItem, Evaluation
from flyteops.storage import open_store, shown
from flyteops.storage.query import EventFilter, ExecutionFilter
from flyteops.storage.row import STATES
from flyteops.storage.sqlite import SqliteStore, schema
from flyteops.storage.sqlite.catalog import Catalog
from flyteops.storage.sqlite.log import LONG
from flyteops.storage.sqlite.queries import Queries
from flyteops.storage.sqlite.store import OTHER
from flyteops.testing.case import before
from flyteops.testing.sample import (
    NOON,
    NOTHING,
    WORKER,
    Sample,
    always,
    creating,
    decision,
    minutes,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flyte.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path) as store:
        yield store


async def ask(store: SqliteStore, pragma: str) -> Any:
    """Ask the writing connection."""
    return await store._write(
        OTHER, lambda table: table.connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    )


async def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        await SqliteStore(path).open()
    return caught.value.message


# ------------------------------------------------------------------------------------------ the URL


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///flyte.db", "flyte.db"),
        ("sqlite:///data/a b%20c?.db", "data/a b%20c?.db"),
        ("sqlite:////var/lib/flyte.db", "/var/lib/flyte.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert store.path == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "flyte.db",
        "sqlite",
        "sqlite://",
        "sqlite:///",
        "sqlite://flyte.db",
        "sqlite:////",
        "sqlite:///:memory:",
        "oracle:///x",
    ],
)
def test_a_url_that_names_no_store_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "postgresql://flyte:se/cret@db:5432/flyte?sslmode=require",
            "postgresql://flyte@db:5432/flyte",
        ),
        ("postgres://db/flyte", "postgres://db/flyte"),
        ("sqlite:///a:b@c?d", "sqlite:///a:b@c?d"),
    ],
)
def test_no_password_is_shown(url: str, text: str) -> None:
    assert shown(url) == text


# ----------------------------------------------------------------------------------------- the file


async def test_a_new_file_is_set_up_to_be_durable_and_to_shrink(store: SqliteStore) -> None:
    assert await ask(store, "application_id") == schema.APPLICATION_ID
    assert await ask(store, "user_version") == len(schema.MIGRATIONS)
    assert await ask(store, "journal_mode") == "wal"
    assert await ask(store, "synchronous") == 2
    assert await ask(store, "auto_vacuum") == 2
    assert await ask(store, "wal_autocheckpoint") == 0  # the writer makes checkpoints itself


async def test_the_last_level_of_the_path_is_created(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "data" / "flyte.db") as store:
        await store.ping()


async def test_a_path_whose_parents_are_missing_is_refused(tmp_path: Path) -> None:
    assert "Cannot create the directory" in await refusal(tmp_path / "no" / "such" / "flyte.db")


async def test_a_directory_in_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()
    assert "Cannot open" in await refusal(path)


async def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in await refusal(tmp_path / "file" / "flyte.db")


async def test_a_lock_that_cannot_be_written_is_refused(path: Path) -> None:
    path.with_name("flyte.db.lock").mkdir()
    assert "needs to write there" in await refusal(path)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)
    assert "not a Flyte database" in await refusal(path)
    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE diary (entry)")
    connection.close()
    before = path.read_bytes()
    assert "another program" in await refusal(path)
    assert path.read_bytes() == before


async def test_the_database_of_a_newer_flyte_is_refused(path: Path) -> None:
    async with SqliteStore(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "newer Flyte (schema 999" in await refusal(path)


async def test_a_damaged_database_is_refused_with_advice(path: Path) -> None:
    async with SqliteStore(path):
        pass
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    assert ".recover" in await refusal(path)


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    async with SqliteStore(path) as store:
        await store.ping()


async def test_migrations_run_in_order_and_only_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(path) as store:
        await store.save_item(DataItem("key", "text/plain", b"value"))
    second = ("ALTER TABLE data_item ADD COLUMN note TEXT", "UPDATE data_item SET note = key")
    third = ("UPDATE data_item SET note = note || '!'",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second, third))
    for _ in range(2):
        async with SqliteStore(path) as store:
            assert await ask(store, "user_version") == len(schema.MIGRATIONS)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT note FROM data_item").fetchall() == [("key!",)]
    connection.close()


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(path):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(
            schema,
            "MIGRATIONS",
            (*schema.MIGRATIONS, ("CREATE TABLE half (x)", "DROP TABLE missing")),
        )
        with pytest.raises(UnavailableError, match="missing"):
            await SqliteStore(path).open()
    async with SqliteStore(path) as store:
        assert await ask(store, "user_version") == len(schema.MIGRATIONS)


async def test_a_second_server_is_refused_with_the_process_that_is_first(
    store: SqliteStore, path: Path
) -> None:
    assert f"in use by process {os.getpid()}" in await refusal(path)
    await store.ping()


async def test_the_lock_is_let_go_when_the_store_cannot_be_opened(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)
    await refusal(path)
    path.unlink()
    async with SqliteStore(path) as store:
        await store.ping()


async def test_an_open_store_is_not_opened_again(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="open already"):
        await store.open()


# --------------------------------------------------------------------------------------- the faults


async def test_another_program_that_holds_the_database_makes_it_unavailable_for_as_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT", 0.01)
    sample = Sample()
    async with SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        events = [sample.event() for _ in range(10)]
        outcomes = await asyncio.gather(
            *(store.record(event, NOTHING) for event in events), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {UnavailableError}
        assert len({id(outcome) for outcome in outcomes}) == 10
        assert list(await store.list_events(EventFilter(), 0, 10)) == []
        other.execute("ROLLBACK")
        other.close()
        await store.record(events[0], NOTHING)
        assert len(await store.list_events(EventFilter(), 0, 10)) == 1


async def test_a_full_database_makes_it_unavailable_until_there_is_room(store: SqliteStore) -> None:
    sample = Sample()
    actions = [sample.action() for _ in range(3)]
    await store.record(sample.event(), creating(*actions))
    pages = await ask(store, "page_count")
    await ask(store, f"max_page_count = {pages}")
    large = b'"' + b"x" * 1_000_000 + b'"'
    with pytest.raises(UnavailableError, match="full"):
        await store.record(sample.event(payload=large), creating(sample.action(name="New")))
    (claimed,) = await store.claim(WORKER, NOON)
    with pytest.raises(UnavailableError):
        await store.finish(claimed.action_id, sample.event(payload=large), always(NOTHING))
    assert len(await store.list_events(EventFilter(), 0, 10)) == 1
    assert (await store.get_action(claimed.action_id)).state == "PENDING"
    await ask(store, f"max_page_count = {pages + 10_000}")
    await store.record(sample.event(payload=large), creating(sample.action(name="New")))
    assert await store.finish(claimed.action_id, sample.event(payload=large), always(NOTHING))
    assert len(await store.list_events(EventFilter(), 0, 10)) == 3


FILE_LIMIT = """
    import asyncio, resource, signal, sys
    from flyteops.errors import UnavailableError
    from flyteops.storage.query import (EventFilter)
    from flyteops.storage.sqlite import SqliteStore
    from flyteops.testing.sample import NOTHING, Sample

    async def main():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sample = Sample()
        payload = b'"' + b"x" * 20_000 + b'"'
        async with SqliteStore(sys.argv[1]) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
            stored = []
            try:
                while True:
                    event = sample.event(payload=payload)
                    await store.record(event, NOTHING)
                    stored.append(event.event_id)
            except UnavailableError:
                pass
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            last = sample.event(payload=payload)
            await store.record(last, NOTHING)
            stored.append(last.event_id)
            found = [record.event.event_id for record in await store.list_events(EventFilter(), 0, 10_000)]
            assert found == stored[::-1], (len(found), len(stored))
        print(len(stored))

    asyncio.run(main())
"""


def test_a_disk_without_room_makes_it_unavailable_until_there_is_some(path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    program = [sys.executable, "-c", textwrap.dedent(FILE_LIMIT), str(path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


async def test_too_many_waiting_writes_are_refused_at_once(path: Path) -> None:
    sample = Sample()
    async with SqliteStore(path, limit=20) as store:
        events = [sample.event() for _ in range(500)]
        outcomes = await asyncio.gather(
            *(store.record(event, NOTHING) for event in events), return_exceptions=True
        )
        refused = [
            event.event_id
            for event, outcome in zip(events, outcomes, strict=True)
            if outcome != event.event_id
        ]
        assert {type(outcome) for outcome in outcomes} == {str, BusyError}
        stored = {
            record.event.event_id for record in await store.list_events(EventFilter(), 0, 1000)
        }
        assert stored == {event.event_id for event in events} - set(refused)
        await store.ping()


async def test_what_nobody_waits_for_any_more_when_the_store_is_closed_is_handed_out_by_the_next(
    path: Path,
) -> None:
    sample = Sample()
    async with SqliteStore(path) as store:
        await store.record(sample.event("Said"), creating(sample.action()))
        claim = asyncio.ensure_future(store.claim(WORKER, NOON))
        await asyncio.sleep(0)
        claim.cancel()
    async with SqliteStore(path) as store:
        assert await store.claim(WORKER, NOON)


async def test_a_fault_of_ours_fails_the_job_and_not_the_writer(store: SqliteStore) -> None:
    sample = Sample()

    def blow(table: Any) -> None:
        table.connection.execute("INSERT INTO flow VALUES ('half', 'done')")
        raise SystemExit

    bad = store._write(OTHER, blow)
    with pytest.raises(Exception, match="SystemExit"):
        await bad
    event = sample.event()
    await store.record(event, NOTHING)
    assert (await store.get_event(event.event_id)).event == event
    assert list(await store.list_flows()) == []


async def test_text_that_cannot_be_stored_fails_its_own_job_only(store: SqliteStore) -> None:
    sample = Sample()
    bad = [sample.event(event_id="\ud800"), sample.event(name="\ud800"), sample.event()]
    outcomes = [NOTHING, NOTHING, creating(sample.action(context={"\ud800": ""}))]
    good = [sample.event() for _ in range(10)]
    answers = await asyncio.gather(
        *(store.record(event, NOTHING) for event in good[:5]),
        *(store.record(event, outcome) for event, outcome in zip(bad, outcomes, strict=True)),
        *(store.record(event, NOTHING) for event in good[5:]),
        return_exceptions=True,
    )
    assert [isinstance(answer, str) for answer in answers] == [True] * 5 + [False] * 3 + [True] * 5
    assert len(await store.list_events(EventFilter(), 0, 100)) == 10


async def test_what_a_failed_job_has_written_is_gone_and_its_neighbours_stay(
    store: SqliteStore,
) -> None:
    class OwnError(Exception):
        pass

    def write_and_fail(table: Any) -> None:
        Catalog(table.connection).save_item(DataItem("half", "text/plain", b"done"))
        raise OwnError

    sample = Sample()
    events = [sample.event() for _ in range(4)]
    answers = await asyncio.gather(
        *(store.record(event, NOTHING) for event in events),
        store._write(OTHER, write_and_fail),
        store.save_item(DataItem("whole", "text/plain", b"done")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [str] * 4 + [OwnError, bool]
    assert [item.key for item in await store.list_items()] == ["whole"]
    assert len(await store.list_events(EventFilter(), 0, 10)) == 4


async def test_what_cannot_be_looked_for_is_the_callers_fault(store: SqliteStore) -> None:
    with pytest.raises(InputError):
        await store.find_pack("\ud800")
    with pytest.raises(InputError):
        await store.list_events(EventFilter(), 10**30, 1)
    with pytest.raises(InputError):
        await store.finish("\ud800", Sample().event(), always(NOTHING))


# ---------------------------------------------------------------------------------------- the plans


async def plans(store: SqliteStore, run: Any) -> list[str]:
    """Return how SQLite goes about each statement of a job."""
    texts: list[str] = []

    def traced(table: Any) -> None:
        connection = table.connection
        connection.set_trace_callback(texts.append)
        try:
            run(table)
            table.flush()
        finally:
            connection.set_trace_callback(None)

    await store._write(OTHER, traced)
    statements = [
        text for text in texts if text.startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))
    ]
    assert statements
    explain = "EXPLAIN QUERY PLAN "
    return await store._write(
        OTHER,
        lambda table: [
            str(row[3]) for text in statements for row in table.connection.execute(explain + text)
        ],
    )


async def test_nothing_on_the_way_of_an_event_scans(store: SqliteStore) -> None:
    sample = Sample()
    first = sample.action(pack_labels={"env": "prod"}, input=b'"' + b"x" * 100_000 + b'"')
    await store.record(sample.event(), creating(first))
    following = sample.action(step_index=1, step_id="second", correlation_id=first.correlation_id)
    cycle = [
        lambda table: table.record(sample.event("New"), creating(sample.action(name="New"))),
        lambda table: table.claim(WORKER, NOON, None),
        lambda table: table.finish(
            first.action_id, sample.event("Done"), always(creating(following))
        ),
    ]
    for run in cycle:
        found = await plans(store, run)
        assert not [plan for plan in found if plan.startswith("SCAN") or "TEMP B-TREE" in plan], (
            found
        )


async def test_a_poll_that_finds_nothing_does_not_reach_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT", 0.01)
    sample = Sample()
    async with SqliteStore(path) as store:
        await store.record(
            sample.event(),
            creating(sample.action(pack_labels={"env": "test"}), sample.action(pack_name="Other")),
        )
        await store.record(sample.event(), creating(sample.action()))
        assert await store.claim(WORKER, NOON)
        assert not await store.claim(WORKER, NOON)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert not await store.claim(WORKER, NOON)
        assert not await store.claim(WORKER, NOON, action_name="Nothing")
        other.close()
        await store.record(sample.event(), creating(sample.action()))
        assert await store.claim(WORKER, NOON)


def readers_plan(path: Path, read: Callable[[Queries], object]) -> list[str]:
    """Return how SQLite finds a page of a list."""
    texts: list[str] = []
    connection = schema.connect(path, query_only=True)
    connection.set_trace_callback(texts.append)
    read(Queries(connection))
    connection.set_trace_callback(None)
    found = [
        str(row[3]) for text in texts for row in connection.execute(f"EXPLAIN QUERY PLAN {text}")
    ]
    connection.close()
    return found


@pytest.mark.parametrize(
    "which",
    [
        ExecutionFilter(),
        ExecutionFilter(flow_name="Deploy"),
        ExecutionFilter(step_id="first"),
        ExecutionFilter(flow_name="Deploy", action_pack_labels={"env": "prod"}),
        ExecutionFilter(action_name="Deploy", action_pack_name="Worker", step_id="first"),
        EventFilter(),
        EventFilter(flow_name="Deploy"),
        EventFilter(event_name="Asked"),
        EventFilter(pack_name="Watcher"),
        EventFilter("Deploy", "Asked", "Watcher"),
    ],
)
async def test_lists_walk_along_an_index(store: SqliteStore, path: Path, which: Any) -> None:
    sample = Sample()
    for _ in range(3):
        await store.record(sample.event(), creating(sample.action(pack_labels={"env": "prod"})))
    whole = ("SCAN e", "SCAN v", "SCAN a", "SCAN f")
    in_order = (
        "SCAN e USING COVERING INDEX execution_by_activity",
        "SCAN e USING INDEX execution_by_activity",
        "SCAN v",
    )
    lists = Queries.list_events if isinstance(which, EventFilter) else Queries.list_executions
    for plan in readers_plan(path, lambda audit: lists(audit, which, 0, 10)):
        assert not plan.startswith(whole) or plan.startswith(in_order), plan


@pytest.mark.parametrize(("backwards", "sign"), [(True, "<"), (False, ">")])
def test_a_page_of_notes_is_sought_where_the_last_one_ended(
    store: SqliteStore, path: Path, backwards: bool, sign: str
) -> None:
    plans = readers_plan(
        path, lambda queries: queries.list_notes("change", "7", 10, backwards=backwards)
    )
    assert plans == [f"SEARCH note USING PRIMARY KEY (kind=? AND key{sign}?)"]


# ------------------------------------------------------------------------------------------- growth


async def test_purging_leaves_nothing_behind_and_gives_the_space_back(
    store: SqliteStore, path: Path
) -> None:
    sample = Sample()
    payload = b'"' + b"x" * 5000 + b'"'
    for number in range(200):
        outcome = creating(sample.action(name=f"Command{number % 7}"))
        await store.record(sample.event(f"Event{number}", payload=payload), outcome)
    while claimed := await store.claim(WORKER, minutes(1)):
        await store.finish(
            claimed[0].action_id,
            sample.event(payload=payload),
            always(Evaluation((decision("Deploy"),))),
        )
    pages = await ask(store, "page_count")
    while (await store.purge(before(minutes(2)), limit=50)).more:
        pass
    connection = sqlite3.connect(path)
    for table in ("event", "source", "flow_event", "execution", "action", "queue"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()
    assert pages > 500
    assert await ask(store, "page_count") < 60
    event = sample.event("Event1")
    await store.record(event, creating(sample.action(name="Command1")))
    assert (await store.get_event(event.event_id)).event == event
    assert await store.claim(WORKER, NOON)


@pytest.mark.slow
async def test_the_log_starts_over_after_a_long_read_though_nothing_is_written_any_more(
    store: SqliteStore, path: Path
) -> None:
    sample, log = Sample(), path.with_name("flyte.db-wal")
    await store.record(sample.event(), NOTHING)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM event").fetchone()
    while log.stat().st_size <= LONG:
        await store.record(sample.event(payload=b'"' + b"x" * 1_000_000 + b'"'), NOTHING)
    await store.ping()
    assert log.stat().st_size > LONG
    reader.close()
    while log.stat().st_size > LONG:
        await asyncio.sleep(0.1)


async def test_a_database_of_the_first_version_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        schema.prepare(path).close()
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        INSERT INTO source VALUES (1, 'Asked', 'Watcher', 'Watcher', '{}');
        INSERT INTO event VALUES (1, 'e1', 1, 1700000000000000, NULL, NULL, 2, '{"a":1}', NULL);
        INSERT INTO execution VALUES (1, 'run', 'Deploy', 'uuid', 1700000000000000);
        INSERT INTO queue VALUES (1, 'Worker', 'Deploy', '{}');
        INSERT INTO action VALUES
          (1, 'a1', 1, 0, 'first', 1, 1, NULL, 'NEW', 'NEW 1700000000000000', '{}', '1'),
          (2, 'a2', 1, 1, 'second', 1, 1, NULL, 'PENDING', 'NEW 1700000000000000,PENDING 1700000000000001', '{}', '2');
        UPDATE event SET payload = CAST(payload AS BLOB);
        UPDATE action SET context = CAST(context AS BLOB), input = CAST(input AS BLOB);
        """.replace("'{\"a\":1}'", "X'7b7d'")
        .replace("'{}', '1'", "X'7b7d', X'31'")
        .replace("'{}', '2'", "X'7b7d', X'32'")
    )
    connection.close()
    sample = Sample()
    async with SqliteStore(path) as store:
        (claimed,) = await store.claim(WORKER, NOON)
        assert (claimed.action_id, claimed.input, claimed.attempt) == ("a1", b"1", 1)
        for action_id in ("a1", "a2"):
            assert await store.finish(action_id, sample.event("Deployed"), always(NOTHING))
        actions = (await store.get_execution("run")).actions
        assert {action.state.value for action in actions} == {"SUCCESS"}
        assert actions[0].trigger.failure is msgspec.UNSET


def old_file(path: Path, monkeypatch: pytest.MonkeyPatch, state: str, version: int = 8) -> None:
    """Write a file of a version in which states were not checked, with an action in this state."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        connection = schema.prepare(path)
    connection.execute(
        "INSERT INTO action (action_id, execution_seq, step_index, step_id, queue_id, trigger_seq,"
        " state, states, context, input) VALUES ('a1', 1, 0, 'first', 1, 1, ?, 'NEW 1', X'7b7d',"
        " X'31')",
        (state,),
    )
    connection.close()


async def test_a_state_that_nobody_knows_is_not_stored(store: SqliteStore) -> None:
    sample = Sample()
    action = sample.action()
    await store.record(sample.event(), creating(action))
    with pytest.raises(ConflictError, match="known_state"):
        await store._write(OTHER, lambda table: table.execute("UPDATE action SET state = 'PAUSED'"))
    assert (await store.get_action(action.action_id)).state is ActionState.NEW


@pytest.mark.parametrize("state", sorted(STATES))
def test_an_old_file_with_known_states_is_migrated(
    path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    old_file(path, monkeypatch, state)
    connection = schema.prepare(path)
    found = connection.execute("SELECT action_id, state FROM action").fetchall()
    connection.close()
    assert found == [("a1", state)]


@pytest.mark.parametrize("version", [1, 8])
def test_an_old_file_with_an_unknown_state_is_refused_and_left_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    old_file(path, monkeypatch, "PAUSED", version)
    with pytest.raises(
        StoreError, match=r"'a1' .* has the unknown state 'PAUSED'; nothing was changed"
    ):
        schema.prepare(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    assert connection.execute("SELECT action_id, state FROM action").fetchall() == [
        ("a1", "PAUSED")
    ]
    connection.execute("UPDATE action SET state = 'FATAL'")
    connection.commit()
    connection.close()
    schema.prepare(path).close()
