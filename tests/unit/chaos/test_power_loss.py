"""The model of a disk that loses its power, and the log that it is fed with."""

from random import Random

import pytest

from flyteops_chaos import block_log
from flyteops_chaos.block_log import (
    FileCreation,
    FileRemoval,
    FileRename,
    FileSync,
    FileTruncation,
    FileWrite,
    SocketSend,
)
from flyteops_chaos.disk import Disk

ROOT = "/store"
PATH = f"{ROOT}/db"


def escaped(data):
    """Return bytes or a text as strace writes it."""
    data = data if isinstance(data, bytes) else data.encode()
    return "".join(f"\\x{byte:02x}" for byte in data)


@pytest.fixture
def left(tmp_path):
    """Return a function that says which files are left after some operations, with their
    content.
    """

    def left(*operations, rng=None):
        disk = Disk(ROOT)
        for at, operation in enumerate(operations):
            disk.do(at, operation)
        place = tmp_path / f"{sum(1 for _ in tmp_path.iterdir())}"
        place.mkdir()
        disk.write_what_is_left(place, rng)
        return {
            f"{path.relative_to(place)}": path.read_bytes()
            for path in place.rglob("*")
            if path.is_file()
        }

    return left


MADE = (FileCreation(PATH), FileSync(ROOT, 1))


def test_what_was_synced_is_left(left):
    assert left(*MADE, FileWrite(PATH, 0, b"abc"), FileWrite(PATH, 1, b"X"), FileSync(PATH, 4)) == {
        "db": b"aXc"
    }


def test_what_was_not_synced_is_lost(left):
    assert left(
        *MADE,
        FileWrite(PATH, 0, b"abc"),
        FileSync(PATH, 3),
        FileWrite(PATH, 0, b"xyz"),
        FileTruncation(PATH, 1),
    ) == {"db": b"abc"}


def test_what_was_written_while_a_sync_was_under_way_is_lost(left):
    assert left(
        *MADE, FileWrite(PATH, 0, b"abc"), FileWrite(PATH, 0, b"xyz"), FileSync(PATH, 3)
    ) == {"db": b"abc"}


def test_a_file_is_lost_unless_its_directory_is_synced(left):
    assert left(FileCreation(PATH), FileWrite(PATH, 0, b"abc"), FileSync(PATH, 2)) == {}


def test_a_directory_is_lost_with_all_that_is_in_it_unless_the_one_above_is_synced(left):
    inner = f"{ROOT}/data"
    made = (
        FileCreation(inner, is_directory=True),
        FileCreation(f"{inner}/db"),
        FileSync(inner, 2),
        FileWrite(f"{inner}/db", 0, b"a"),
        FileSync(f"{inner}/db", 4),
    )
    assert left(*made) == {}
    assert left(*made, FileSync(ROOT, 5)) == {"data/db": b"a"}


def test_a_removed_file_is_there_again_unless_its_directory_is_synced(left):
    removed = (*MADE, FileWrite(PATH, 0, b"a"), FileSync(PATH, 3), FileRemoval(PATH))
    assert left(*removed) == {"db": b"a"}
    assert left(*removed, FileSync(ROOT, 5)) == {}


def test_a_file_that_got_another_name_has_one_of_both(left):
    moved = (*MADE, FileWrite(PATH, 0, b"a"), FileSync(PATH, 3), FileRename(PATH, f"{ROOT}/new"))
    assert left(*moved) == {"db": b"a"}
    assert left(*moved, FileSync(ROOT, 5)) == {"new": b"a"}


def test_what_was_not_synced_may_be_there_in_part(left):
    operations = (
        *MADE,
        FileWrite(PATH, 0, b"a" * 1024),
        FileSync(PATH, 3),
        FileWrite(PATH, 0, b"b" * 1024),
    )
    found = {left(*operations, rng=Random(seed))["db"] for seed in range(40)}
    halves = {(content[:512], content[512:]) for content in found}
    old, new = b"a" * 512, b"b" * 512
    assert halves == {(old, old), (old, new), (new, old), (new, new)}


def test_files_elsewhere_do_not_matter(left):
    assert (
        left(
            FileCreation("/tmp/x"),
            FileWrite("/tmp/x", 0, b"a"),
            FileRemoval("/tmp/x"),
            FileSync("/tmp", 9),
        )
        == {}
    )


def test_the_log_tells_what_was_done_in_order():
    path, client = f"7<{escaped('/store/db')}>", "9<TCP:[127.0.0.1:1->127.0.0.1:40000]>"
    lines = [
        (
            f'5 openat(AT_FDCWD<{escaped("/")}>, "{escaped("/store/db")}",'
            f" O_RDWR|O_CREAT|O_CLOEXEC, 0644) = {path}"
        ),
        f'5 pwrite64({path}, "{escaped(b"abc")}", 3, 4096) = 3',
        f"5 fdatasync({path} <unfinished ...>",
        f'6 pwrite64({path}, "{escaped(b"d")}", 1, 8192 <unfinished ...>',
        "6 <... pwrite64 resumed>)             = 1",
        "5 <... fdatasync resumed>)            = 0",
        f'5 write({client}, "{escaped(b"HTTP/1.1 202")}", 12) = 12',
        (
            f'5 writev({client}, [{{iov_base="{escaped(b"a")}", iov_len=1}},'
            f' {{iov_base="{escaped(b"bc")}", iov_len=2}}], 2) = 3'
        ),
        f"5 ftruncate({path}, 100) = 0",
        f'5 unlink("{escaped("/store/db")}") = 0',
        f'5 rename("{escaped("/a")}", "{escaped("/b")}") = 0',
        f'5 mkdir("{escaped("/c")}", 0777) = 0',
    ]
    assert block_log.read(lines) == [
        (0, FileCreation("/store/db")),
        (1, FileWrite("/store/db", 4096, b"abc")),
        (3, FileWrite("/store/db", 8192, b"d")),
        (5, FileSync("/store/db", 2)),
        (6, SocketSend(40000, b"HTTP/1.1 202")),
        (7, SocketSend(40000, b"abc")),
        (8, FileTruncation("/store/db", 100)),
        (9, FileRemoval("/store/db")),
        (10, FileRename("/a", "/b")),
        (11, FileCreation("/c", is_directory=True)),
    ]


def test_what_failed_and_what_goes_elsewhere_is_not_in_the_log():
    lines = [
        f'5 unlink("{escaped("/store/db")}") = -1 ENOENT (No such file or directory)',
        f'5 write(2<{escaped("pipe:[1]")}>, "{escaped(b"a")}", 1) = 1',
        (
            f'5 openat(AT_FDCWD<{escaped("/")}>, "{escaped("/store/db")}", O_RDONLY) ='
            f" 7<{escaped('/store/db')}>"
        ),
        "5 +++ exited with 0 +++",
    ]
    assert block_log.read(lines) == []


def test_a_short_write_counts_as_far_as_it_came():
    line = f'5 pwrite64(7<{escaped(PATH)}>, "{escaped(b"abc")}", 3, 0) = 2'
    assert block_log.read([line]) == [(0, FileWrite(PATH, 0, b"ab"))]
