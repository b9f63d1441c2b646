"""The log file of a server."""

import os
import stat

import pytest

from flyteops.server.logs import PrivateFileHandler


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_only_its_owner_may_read_a_new_log_file(tmp_path):
    log = tmp_path / "flyte.log"
    handler = PrivateFileHandler(log)
    assert mode_of(log) == 0o600
    log.rename(tmp_path / "flyte.log.1")
    handler.reopenIfNeeded()
    assert mode_of(log) == 0o600
    handler.close()


def test_the_permissions_of_a_log_file_that_is_there_stay(tmp_path):
    log = tmp_path / "flyte.log"
    log.touch()
    log.chmod(0o640)
    PrivateFileHandler(log).close()
    assert mode_of(log) == 0o640
