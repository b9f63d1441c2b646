"""What `flyte packs list` says of packs that were stopped, killed, or run several times."""

import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.test_auth import flyte

pytestmark = pytest.mark.slow


@pytest.fixture
def run_pack(server):
    packs = []

    def run(name, *options):
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("FLYTE_", "PACK_"))
        }
        env |= {"FLYTE_API": server, "FLYTE_PACK_HEALTH_PORT": "off"}
        command = [sys.executable, "-m", "flyteops", "pack", "run", name, *options]
        pack = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        packs.append(pack)
        assert any("is registered at" in line for line in iter(pack.stderr.readline, ""))
        return pack

    yield run
    for pack in packs:
        if pack.poll() is None:
            pack.kill()
        pack.communicate()


def listed(url):
    code, said, _ = flyte("packs", "list", FLYTE_API=url)
    assert code == 0
    return {line.split()[0]: " ".join(line.split()[1:]) for line in said.splitlines()[1:]}


def end(pack, number):
    pack.send_signal(number)
    pack.communicate(timeout=20)


def test_stopped_killed_and_several(server, run_pack):
    one, two, dev = run_pack("Shell"), run_pack("Shell"), run_pack("Shell", "--labels", "env=dev")
    killed = run_pack("Ticker")
    end(one, signal.SIGTERM)
    end(dev, signal.SIGINT)
    end(killed, signal.SIGKILL)
    packs = listed(server)
    assert packs["Shell"].startswith("live")
    assert packs["Shell.env.dev"].startswith("stopped")
    assert packs["Ticker"].startswith("live")  # and silent later on
    end(two, signal.SIGTERM)
    assert listed(server)["Shell"].startswith("stopped")
    run_pack("Shell")
    assert listed(server)["Shell"].startswith("live")
