"""Backup files: what is written comes back, and whatever is not as it was written is refused
before a store is touched.
"""

import gzip
import io
from datetime import UTC, datetime

import msgspec
import pytest

from flyteops.errors import ConflictError, InputError
from flyteops.storage.backup import restore_backup, write_backup
from flyteops.storage.dump import move
from flyteops.storage.sqlite import SqliteStore
from flyteops.testing.sample import NOTHING, Sample
from flyteops.testing.transfer import Everything, quiet, records_of

MADE_AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "old.db") as store:
        await Everything().store(store)
        yield store


@pytest.fixture
async def backup(store):
    file = io.BytesIO()
    await write_backup(store, file, MADE_AT, quiet)
    return file.getvalue()


@pytest.fixture
def restored(tmp_path):
    return SqliteStore(tmp_path / "new.db")


def changed(backup, change):
    """Return the backup with its lines changed, packed anew, as somebody might who means well."""
    return gzip.compress(b"".join(change(gzip.decompress(backup).splitlines(keepends=True))))


async def refuse(backup, target, match):
    with pytest.raises(InputError, match=match):
        await restore_backup(io.BytesIO(backup), target, quiet)
    assert not target.path.exists()


async def test_what_was_saved_comes_back(store, backup, restored):
    tally = await restore_backup(io.BytesIO(backup), restored, quiet)
    async with restored:
        assert await records_of(restored) == await records_of(store)
    lines = [msgspec.json.decode(line) for line in gzip.decompress(backup).splitlines()]
    assert lines[0] == {
        "type": "backup",
        "format": 1,
        "version": lines[0]["version"],
        "made_at": "2026-11-25T12:00:00Z",
    }
    assert lines[-1] == {
        "type": "end",
        "counts": tally.counts,
        "checksum": tally.checkpoint.checksum,
    }
    assert tally.counts["action"] == 9


async def test_equal_stores_have_equal_backups(store, backup, restored):
    await restore_backup(io.BytesIO(backup), restored, quiet)
    again = io.BytesIO()
    await write_backup(restored, again, MADE_AT, quiet)
    assert gzip.decompress(again.getvalue()) == gzip.decompress(backup)


async def test_a_backup_that_is_cut_off_is_refused_wherever_that_is(backup, restored):
    for length in range(20, len(backup), len(backup) // 40):
        await refuse(backup[:length], restored, "cut off|not a backup")
    await refuse(backup[:-1], restored, "cut off")
    await refuse(changed(backup, lambda lines: lines[:-1]), restored, "cut off")


async def test_a_backup_with_another_byte_is_refused_wherever_that_is(backup, restored):
    # The first ten bytes are about the file it was made from; what matters of them is tested by the
    # reader.
    for place in range(10, len(backup), len(backup) // 40):
        flipped = backup[:place] + bytes([backup[place] ^ 1]) + backup[place + 1 :]
        await refuse(flipped, restored, "not as it was written|cut off|not a backup")


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:5], *lines[6:]],
        lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
        lambda lines: [*lines[:5], lines[5], *lines[5:]],
        lambda lines: [line.replace(b"Deploy", b"Destroy") for line in lines],
        lambda lines: [*lines[:5], b'{"type":"unheard-of"}\n', *lines[5:]],
        lambda lines: [*lines[:5], b"\xff\n", *lines[5:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines, b"more\n"],
    ],
    ids=["less", "reordered", "twice", "edited", "unknown", "no-json", "two-ends", "more"],
)
async def test_a_backup_that_was_edited_is_refused(backup, restored, change):
    await refuse(changed(backup, change), restored, "not as it was written")


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"PK\x03\x04 something else",
        gzip.compress(b"", mtime=0),
        gzip.compress(b'{"type":"other"}\n', mtime=0),
    ],
)
async def test_what_is_no_backup_is_refused(file, restored):
    await refuse(file, restored, "not a backup of Flyte")


async def test_a_backup_in_a_newer_format_says_which_version_is_needed(backup, restored):
    def newer(lines):
        return [
            lines[0]
            .replace(b'"format":1', b'"format":2')
            .replace(b'"version":"', b'"version":"9.'),
            *lines[1:],
        ]

    await refuse(changed(backup, newer), restored, r"Flyte 9\.\S+ in format 2")


async def test_a_store_that_holds_something_is_left_alone(backup, restored):
    async with restored:
        await restored.record(Sample().event(), NOTHING)
        before = await records_of(restored)
    with pytest.raises(ConflictError, match="not empty"):
        await restore_backup(io.BytesIO(backup), restored, quiet)
    async with restored:
        assert await records_of(restored) == before


async def test_a_source_that_has_grown_since_a_move_broke_off_is_not_mixed_with_what_it_was(
    store, restored
):
    records = await records_of(store)
    await store.save_pack(Sample().pack("Another"))

    def break_off(doing, _tally):
        if doing == "verifying":
            raise KeyboardInterrupt

    async with restored:
        with pytest.raises(KeyboardInterrupt):
            await move(store, restored, break_off)
        await store.delete_pack("Another")
        assert await records_of(store) == records
        with pytest.raises(ConflictError, match="or the source has changed"):
            await move(store, restored, quiet)


async def test_events_without_an_outcome_are_written_as_before_outcomes_were_stored(backup):
    lines = [msgspec.json.decode(line) for line in gzip.decompress(backup).splitlines()]
    events = {line["event"]["name"]: line["event"] for line in lines if line["type"] == "event"}
    assert {name: event["failure"] for name, event in events.items() if "failure" in event} == {
        "Done": True,
        "FATAL": False,
        "Late": True,
    }
