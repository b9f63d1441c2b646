"""One `flyte dev` at a time in a folder."""

import os
import stat

from flyteops.cli.dev.command import own_directory
from flyteops.cli.dev.lockfile import FolderLock, LockHolder


def test_whoever_comes_second_learns_where_the_first_is(tmp_path):
    with FolderLock(tmp_path) as first:
        with FolderLock(tmp_path) as early:
            assert early.other == LockHolder(str(os.getpid()), "")
        first.tell("http://127.0.0.1:8080")
        with FolderLock(tmp_path) as late:
            assert late.other == LockHolder(str(os.getpid()), "http://127.0.0.1:8080")
        assert first.other is None


def test_a_folder_is_free_again_when_its_tenant_is_gone(tmp_path):
    with FolderLock(tmp_path) as first:
        first.tell("http://127.0.0.1:8080")
    with FolderLock(tmp_path) as second:
        assert second.other is None
        with FolderLock(tmp_path) as third:
            assert third.other == LockHolder(str(os.getpid()), "")


def test_only_its_owner_may_look_into_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for before in (None, 0o755):
        if before is not None:
            (tmp_path / ".flyte").chmod(before)
        with FolderLock(own_directory()):
            assert stat.S_IMODE((tmp_path / ".flyte").stat().st_mode) == 0o700
            assert stat.S_IMODE((tmp_path / ".flyte" / "running").stat().st_mode) == 0o600
