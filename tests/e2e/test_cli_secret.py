"""Secrets from the command line, with a server process."""

import io
import os
import subprocess
import sys

import pytest

from flyteops.cli import main
from tests.e2e.conftest import start_server


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


@pytest.mark.slow
def test_a_secret_is_set_used_and_not_shown(tmp_path, monkeypatch, capfd):
    key = tmp_path / "keys"
    run("data", "new-key")
    key.write_text(capfd.readouterr().out)
    process, url = start_server(tmp_path, FLYTE_SECRETS_KEY_FILE=str(key))
    monkeypatch.setenv("FLYTE_API", url)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hunter2")))
    try:
        run("data", "set", "token", "-", "--secret")
        run("data", "list")
        run("data", "show", "token")
        out = capfd.readouterr().out
    finally:
        process.terminate()
        log = process.stdout.read()
        assert process.wait(20) == 0
        process.stdout.close()
    assert "created datastore item token" in out
    assert "text/plain; charset=utf-8 (secret)" in out
    assert "only packs receive its value, where flows use secret('key')" in out
    assert "hunter2" not in out + log


def test_a_file_of_keys_that_is_none_stops_the_start_and_is_not_repeated(tmp_path):
    (tmp_path / "keys").write_text("topsecret")
    environment = {
        **os.environ,
        "FLYTE_SECRETS_KEY_FILE": str(tmp_path / "keys"),
        "FLYTE_STORE": f"sqlite:///{tmp_path}/flyte.db",
    }
    command = [sys.executable, "-m", "flyteops", "serve"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert "is not a list of keys for secrets; `flyte data new-key` makes one" in ended.stderr
    assert "topsecret" not in ended.stderr
