"""`flyte audit`: what it says about changes, and about those who touched what is kept of them."""

import asyncio
import json
import re
import sqlite3

import pytest

from flyteops.cli import main
from flyteops.cli import verify as verifying
from flyteops.cli.audit import change_lines, parse_time_option
from flyteops.model import DataItem, Flow
from flyteops.service import AuditFilter, MaintenanceSettings, Service
from flyteops.service.auditlog.entry import Actor, AuditEntry, Origin, ResourceState
from flyteops.storage.sqlite import SqliteStore


@pytest.fixture
def flyte(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verifying, "PAUSE", 0.0)
    for name in ("FLYTE_API", "FLYTE_API_URL", "FLYTE_JWT", "FLYTE_STORE", "FLYTE_MGO_HOST"):
        monkeypatch.delenv(name, raising=False)

    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main(args)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
async def heads(tmp_path):
    """The names of the entries of a store with three flows and an item."""
    async with SqliteStore(tmp_path / "flyte.db") as store:
        service = Service(store)
        await service.start()
        for name in ("a", "b", "c"):
            await service.flows.save(Flow(name))
        await service.data.save(DataItem("motto", "text/plain", b"go"))
        return [change.head for change in reversed(await service.audit.list_changes(AuditFilter()))]


def touch(statement, *values):
    with sqlite3.connect("flyte.db") as connection:
        assert connection.execute(statement, values).rowcount
    connection.close()


def test_a_store_that_nobody_has_touched_is_as_its_changes_say(flyte, heads):
    code, out, err = flyte("audit", "verify")
    assert (code, err) == (0, "")
    assert (
        out == f"4 changes are unmodified, and the store matches them\nthe newest is {heads[-1]}\n"
    )
    expected = [word for head in heads for word in ("--expect", head.upper())]
    code, out, _ = flyte("audit", "verify", "--store", "sqlite:///flyte.db", "--json", *expected)
    assert (code, json.loads(out)) == (
        0,
        {
            "changes": 4,
            "removed": 0,
            "newest": heads[-1],
            "fault": None,
            "found": [],
            "unverifiable": [],
            "differences": [],
        },
    )


KEY = "UPDATE note SET key = ? WHERE kind = 'change' AND key = ?"


@pytest.mark.parametrize(
    ("touches", "told"),
    [
        (
            [
                (
                    (
                        "UPDATE note SET value = CAST(replace(CAST(value AS TEXT), '\"b\"',"
                        " '\"x\"') AS BLOB) WHERE key = ?"
                    ),
                    "000000000002",
                )
            ],
            "entry 2 was modified: its hash is not that of what it says",
        ),
        (
            [("DELETE FROM note WHERE key = ?", "000000000002")],
            "entry 2 was removed: it is missing",
        ),
        (
            [("DELETE FROM note WHERE key < ? AND kind = 'change'", "000000000004")],
            "entry 1 was removed: entries 1 to 3 are missing",
        ),
        (
            [
                (KEY, "9", "000000000002"),
                (KEY, "000000000002", "000000000003"),
                (KEY, "000000000003", "9"),
            ],
            "entry 2 was reordered: what is there was written as entry 3",
        ),
        (
            [
                (
                    "INSERT INTO note SELECT kind, ?, value FROM note WHERE key = ?",
                    "000000000004a",
                    "000000000004",
                )
            ],
            (
                "entry 5 was inserted: there is a note '000000000004a' among the entries, which no"
                " server has written"
            ),
        ),
    ],
)
def test_the_first_entry_that_was_touched_is_told(flyte, heads, touches, told):
    for statement in touches:
        touch(*statement)
    code, out, err = flyte("audit", "verify")
    assert (code, out, err) == (1, "", f"flyte: {told}\n")
    code, out, _ = flyte("audit", "verify", "--json")
    fault = json.loads(out)["fault"]
    assert (code, f"entry {fault['seq']} was {fault['how']}: {fault['detail']}") == (1, told)


def test_that_the_newest_entries_are_gone_is_told_to_who_has_noted_one(flyte, heads):
    touch("DELETE FROM note WHERE key = ?", "000000000004")
    touch("DELETE FROM data_item")
    assert flyte("audit", "verify")[0] == 0
    code, _, err = flyte("audit", "verify", "--expect", heads[3])
    assert (code, err) == (
        1,
        "flyte: entry 4 was removed: entry 4 is known from elsewhere, but the last is 3\n",
    )
    code, _, err = flyte("audit", "verify", "--expect", f"3:{'0' * 64}")
    assert (code, err) == (
        1,
        "flyte: entry 3 was modified: its hash is another than the one that was expected\n",
    )
    code, _, err = flyte("audit", "verify", "--expect", "3:short")
    assert (code, "is not a number, a colon and 64 hexadecimal digits" in err) == (2, True)


def test_what_was_changed_in_the_database_is_told(flyte, heads):
    touch("UPDATE data_item SET value = ?", b"stop")
    touch("DELETE FROM flow WHERE name = 'a'")
    code, out, err = flyte("audit", "verify")
    assert (code, out) == (1, f"the newest is {heads[-1]}\n")
    changed, gone = err.splitlines()
    assert re.fullmatch(
        r"flyte: datastore motto is in the store, but not as change 4 \(created by server, .*\)"
        r" says",
        changed,
    )
    assert re.fullmatch(
        r"flyte: flow a is not in the store, but change 1 \(created by server, .*\) says that it"
        r" is",
        gone,
    )
    assert json.loads(flyte("audit", "verify", "--json")[1])["differences"] == [
        {"kind": "datastore", "name": "motto", "change": 4},
        {"kind": "flow", "name": "a", "change": 1},
    ]


def test_what_a_server_has_found_stays_to_be_told(flyte, heads, tmp_path):
    touch("UPDATE data_item SET value = ?", b"stop")

    async def start():
        async with SqliteStore(tmp_path / "flyte.db") as store:
            await Service(store).start()

    asyncio.run(start())
    code, out, err = flyte("audit", "verify")
    assert (code, err) == (0, "")
    assert out.startswith(
        "change 5 recorded that datastore motto changed outside the audit log\n5 changes are"
        " unmodified"
    )


def test_a_store_that_is_not_there_is_not_made(flyte, tmp_path):
    code, _, err = flyte("audit", "verify")
    assert (code, "does not exist; give the path" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


CHANGE = AuditEntry(
    seq=7,
    time="2026-03-01T12:30:00Z",
    who=Actor(kind="token", id="3f2a", name="A\x1b[31mnn"),
    place=Origin(address="10.0.0.7", forwarded_for="192.0.2.1", agent="curl"),
    kind="datastore",
    name="x\n\x1b",
    action="updated",
    before=ResourceState.of("text/plain", b"one\ntwo\n", "d"),
    after=ResourceState.of("text/plain", b"one\n\x1b[2Jthree\n"),
    previous="0" * 64,
    hash="1" * 64,
)


def test_a_change_is_shown_by_what_is_different_and_steers_no_terminal():
    shown = "\n".join(change_lines(CHANGE))
    assert "\x1b[2J" not in shown
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
    assert plain[0].endswith("datastore x \\x1b: updated")
    assert plain[1:4] == [
        "  by    token 3f2a (A\\x1b[31mnn)",
        "  from  10.0.0.7, for 192.0.2.1, as it says, with curl",
        f"  hash  {'1' * 64}",
    ]
    assert plain[5:] == [
        "   content type: text/plain",
        "  -description: d",
        "   one",
        "  -two",
        "  +\\x1b[2Jthree",
    ]


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (ResourceState.of_secret("text/plain", b"e", ""), "+(a secret, encrypted as"),
        (ResourceState.of("image/png", b"\xff\x00"), "+(2 bytes that are not text, SHA-256 "),
        (ResourceState.of("text/plain", b"x" * 70_000), "+(cut here; 70000 bytes in all, SHA-256 "),
        (ResourceState.of("application/json", b'{"a":{"b":[1]}}'), "+  - 1"),
        (ResourceState.of("application/json", b"{no"), "+{no"),
    ],
)
def test_what_cannot_be_shown_is_described(state, shown):
    change = AuditEntry(
        seq=1,
        time=CHANGE.time,
        who=CHANGE.who,
        kind="datastore",
        name="k",
        action="created",
        after=state,
        previous="",
    )
    assert shown in re.sub("\x1b\\[[0-9;]*m", "", "\n".join(change_lines(change)))


def test_a_time_is_a_duration_before_now_or_a_time_here_or_anywhere(monkeypatch):
    assert parse_time_option(None, "--since") is None
    assert parse_time_option("2026-03-01T12:30:00+02:00", "--since") == "2026-03-01T10:30:00Z"
    assert parse_time_option("2026-03-01T12:30:00.5Z", "--since") == "2026-03-01T12:30:00.5Z"
    assert parse_time_option("7d", "--since") < parse_time_option("1d", "--since")


async def trimmed_log(path):
    async with SqliteStore(path) as store:
        service = Service(store, maintenance=MaintenanceSettings(max_change_log=30_000))
        await service.start()
        for number in range(110):
            await service.data.save(DataItem("busy", "text/plain", str(number).encode()))
        await service.run_maintenance()
        return (await service.audit.list_changes(AuditFilter(), 0, 1000))[-1]


@pytest.mark.slow
def test_a_log_that_was_trimmed_is_whole_from_where_on(flyte, tmp_path):
    oldest = asyncio.run(trimmed_log(tmp_path / "trimmed.db"))
    removed = oldest.seq - 1
    removed_one, kept_one = f"1:{'0' * 64}", f"{removed}:{oldest.previous}"
    code, out, err = flyte(
        "audit", "verify", "--store", "sqlite:///trimmed.db", "--expect", removed_one
    )
    assert (code, err) == (
        1,
        (
            "flyte: none of the changes given with --expect is still in the log; note newer ones"
            " more often\n"
        ),
    )
    code, out, _ = flyte(
        "audit",
        "verify",
        "--store",
        "sqlite:///trimmed.db",
        "--expect",
        removed_one,
        "--expect",
        kept_one,
    )
    assert code == 0
    assert f"{111 - removed} changes are unmodified" in out
    assert (
        f"the oldest is {oldest.seq}: those up to {removed}:{oldest.previous} were removed to bound"
        " the log\n" in out
    )
    assert "change 1 cannot be compared with --expect any more" in out
    code, out, _ = flyte(
        "audit", "verify", "--store", "sqlite:///trimmed.db", "--json", "--expect", f"1:{'0' * 64}"
    )
    assert json.loads(out)["unverifiable"] == [1]
    assert (code, json.loads(out)["removed"], json.loads(out)["changes"]) == (
        1,
        removed,
        111 - removed,
    )
