"""A server under load with a bound on its disk: the store stays small, and nothing that is alive
goes.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.e2e.conftest import start_server

MIB = 1024 * 1024
MAX_DISK = 16 * MIB
LOG = 8 * MIB
"""How large the write-ahead log may be, looked at after each commit, so that one may go past its
bound of six mebibytes.
"""

TEXT = "x" * 16_000
THREADS, CYCLES = 4, 300
assert THREADS * CYCLES * 3 * len(TEXT) > 3 * MAX_DISK  # event, input and result of each
FLOW = {
    "name": "chatty",
    "steps": [
        {
            "id": kind,
            "event": {"packName": "Source", "name": kind},
            "command": {
                "packName": "Worker",
                "name": kind,
                "input": {"text": "{{ Event.Payload.text }}"},
            },
        }
        for kind in ("Done", "Waits")
    ],
}


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("flyte.db*"))


@pytest.mark.slow
def test_a_bounded_store_forgets_the_oldest_and_keeps_what_waits(tmp_path):
    process, url = start_server(tmp_path, FLYTE_MAX_DISK="16MiB")
    try:
        with httpx2.Client(base_url=f"{url}/v1") as client:
            for body in ({"name": "Source"}, {"name": "Worker"}):
                assert client.post("/packs", json=body).status_code == 201
            assert client.post("/flows", json=FLOW).status_code == 201
            waiting = {send(client, "Waits") for _ in range(20)}
            with ThreadPoolExecutor(THREADS) as threads:
                list(threads.map(cycle, [url] * THREADS))
            until = time.monotonic() + 40
            while size_of(tmp_path) > MAX_DISK + LOG and time.monotonic() < until:
                time.sleep(0.2)
            assert size_of(tmp_path) <= MAX_DISK + LOG
            taken = client.post(
                "/packs/Worker/actions/take", params={"actionName": "Waits", "max": 100}
            ).json()["actions"]
            assert len(taken) == len(waiting)
            assert {action["input"]["text"] for action in taken} == {TEXT}
            assert send(client, "Done")
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


def send(client, name):
    answer = client.post("/packs/Source/events", json={"event": name, "payload": {"text": TEXT}})
    assert answer.status_code == 202
    return answer.headers["location"]


def cycle(url):
    """Send events, and answer what comes of them."""
    with httpx2.Client(base_url=f"{url}/v1") as client:
        for _ in range(CYCLES):
            send(client, "Done")
            action = client.post("/packs/Worker/actions/take", params={"actionName": "Done"})
            if action.status_code == 200:
                href = action.json()["links"][0]["href"]
                assert (
                    client.post(href, json={"event": "Ended", "payload": TEXT}).status_code == 202
                )
