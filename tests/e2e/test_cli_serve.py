"""`flyte serve` as a process: what it says, what it refuses, how it ends."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time

import httpx2
import pytest

from tests.e2e.server import READY
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_says_where_it_is_and_stops_when_told(serve, number):
    server = serve()
    url = server.read_until(READY)[1]
    assert httpx2.get(f"{url}/health").status_code == 200
    server.process.send_signal(number)
    code, out, err = server.end()
    assert (code, out) == (0, "")
    assert err.rstrip().endswith("flyte.server: stopped")
    assert len(err.splitlines()) == 3


def test_a_request_under_way_is_answered_before_the_end(serve):
    server = serve()
    port = int(server.read_until(READY)[1].rpartition(":")[2])
    body = b'{"name": "Slow", "links": []}'
    head = b"POST /v1/packs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head + body[:5])
        httpx2.get(f"http://127.0.0.1:{port}/health")  # by now the server has seen the beginning
        server.process.terminate()
        server.read_until("stopping")
        connection.sendall(body[5:])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert server.end()[0] == 0


def test_a_second_signal_does_not_wait_for_requests(serve):
    server = serve()
    port = int(server.read_until(READY)[1].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /v1/packs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        httpx2.get(f"http://127.0.0.1:{port}/health")
        server.process.terminate()
        server.read_until("stopping")
        server.process.terminate()
        code, _, err = server.end()
    assert code == 0
    assert "exceeded" not in err


def test_who_waits_for_an_action_does_not_keep_it_from_stopping(serve):
    server = serve()
    url = server.read_until(READY)[1]
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST /v1/packs/P/actions/take?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        httpx2.get(f"{url}/health")
        began = time.monotonic()
        server.process.terminate()
        assert connection.recv(100).startswith(b"HTTP/1.1 204 ")
        assert server.end()[0] == 0
    assert time.monotonic() - began < 5


def test_a_schedule_and_a_lost_command_are_dealt_with_over_a_restart(serve):
    limited = {"name": "C", "packName": "P", "timeout": "200ms"}
    rescue = {"name": "R", "packName": "P", "input": "{{ Event.Payload.reason }}"}
    steps = [
        {"id": "a", "event": {"name": "E", "packName": "P"}, "command": limited},
        {
            "id": "b",
            "dependsOn": ["a"],
            "event": {"name": "FATAL", "packName": "P"},
            "command": rescue,
        },
    ]
    first = serve()
    url = first.read_until(READY)[1]
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    assert httpx2.post(f"{url}/v1/flows", json={"name": "f", "steps": steps}).status_code == 201
    assert httpx2.post(f"{url}/v1/packs/P/events", json={"event": "E"}).status_code == 202
    assert httpx2.post(f"{url}/v1/packs/P/actions/take").json()["command"] == "C"
    first.process.kill()
    first.end()
    second = serve()
    url = second.read_until(READY)[1]
    followed = httpx2.post(f"{url}/v1/packs/P/actions/take?wait=10", timeout=20).json()
    assert (followed["command"], followed["input"]) == ("R", "lost")


def test_what_was_sent_is_there_after_a_restart(serve):
    first = serve()
    url = first.read_until(READY)[1]
    assert httpx2.post(f"{url}/v1/flows", json={"name": "kept"}).status_code == 201
    first.process.terminate()
    assert first.end()[0] == 0
    second = serve()
    url = second.read_until(READY)[1]
    assert "with 1 flows and 0 packs" in second.lines[-1]
    assert httpx2.get(f"{url}/v1/flows/kept").status_code == 200


def test_a_taken_port_is_one_clear_line(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = serve("--port", str(port)).end()
    assert (code, out) == (1, "")
    hint = "perhaps another Flyte; choose another with --port or FLYTE_PORT"
    assert err == f"flyte: port {port} of 127.0.0.1 is in use by another program, {hint}\n"


def test_a_store_that_another_server_holds_is_one_clear_line(serve):
    serve().read_until(READY)
    code, out, err = serve().end()
    assert (code, out) == (1, "")
    assert err.startswith("flyte: ")
    assert "in use by process" in err
    assert err.count("\n") == 1


def test_a_store_that_is_no_store_is_one_clear_line(serve, tmp_path):
    (tmp_path / "notes.db").write_text("These are my notes, and no database at all. " * 30)
    code, _, err = serve("--store", "sqlite:///notes.db").end()
    assert code == 1
    assert err.startswith("flyte: ")
    assert "Traceback" not in err
    assert (tmp_path / "notes.db").read_text().startswith("These are my notes")


def test_everything_wrong_with_the_settings_is_said_at_once(serve, tmp_path):
    (tmp_path / "cert.pem").write_text("none")
    wrong = {
        "FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM": "25:00",
        "FLYTE_TLS_CERT_PATH": str(tmp_path / "cert.pem"),
        "FLYTE_TLS_KEY_PATH": str(tmp_path / "missing.pem"),
        "LOGFILE": str(tmp_path / "missing" / "flyte.log"),
    }
    code, _, err = serve("--store", "sqlite:////dev/full", **wrong).end()
    assert code == 2
    said = [line.split(":")[0].strip() for line in err.splitlines()]
    tls = ["FLYTE_TLS_CERT_PATH", "FLYTE_TLS_KEY_PATH"]
    assert said[1:] == ["FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM", *tls, "LOGFILE", "--store"]


@pytest.mark.parametrize("store", ["missing/folder/flyte.db", "/", "folder", "file/flyte.db"])
def test_a_store_that_cannot_be_there_is_a_wrong_setting(serve, tmp_path, store):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    code, _, err = serve("--store", f"sqlite:///{store}").end()
    assert code == 2
    assert "  --store: " in err


def test_being_reachable_for_others_without_auth_is_warned_about(serve):
    server = serve("--host", "0.0.0.0")
    server.read_until("WARNING .*Auth is off and 0.0.0.0 is reachable from other computers")
    assert "listens on http://127.0.0.1:" in "".join(server.lines)


def test_a_server_for_this_computer_alone_goes_by_its_names_and_those_it_is_told(serve):
    url = serve("--allowed-origins", "https://flyte.example.com").read_until(READY)[1]
    for host, status in (("evil.example", 403), ("flyte.example.com", 200), ("localhost", 200)):
        assert httpx2.get(f"{url}/v1", headers={"Host": host}).status_code == status


def test_an_unknown_variable_is_warned_about(serve):
    serve(FLYTE_PROT="80").read_until(
        "WARNING .*FLYTE_PROT: is not a setting of Flyte and is ignored; did you mean FLYTE_PORT"
    )


def test_the_log_can_go_to_a_file(serve, tmp_path):
    log = tmp_path / "flyte.log"
    os.mkfifo(log)  # opening it waits until the server writes, so there is nothing to guess
    server = serve(LOGFILE=str(log))
    with log.open() as lines:
        assert READY.search(next(lines))
        server.process.terminate()
        assert server.end() == (0, "", "")


def test_it_ends_with_whoever_started_it_if_attached(serve, tmp_path):
    reading, writing = os.pipe()
    command = [
        sys.executable,
        "-m",
        "flyteops",
        "serve",
        "--attached",
        "--port",
        "0",
        "--store",
        f"sqlite:///{tmp_path}/a.db",
    ]
    process = subprocess.Popen(
        command, stdin=reading, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    os.close(reading)
    assert READY.search(process.stderr.readline())
    os.close(writing)
    assert process.wait(20) == 0
    process.stderr.close()


def test_several_workers_do_not_share_a_file(serve):
    code, _, err = serve("--workers", "4").end()
    assert code == 2
    assert "--workers: 4 server processes cannot share 'sqlite:///" in err
    assert "docs/decisions/0051-sqlite-keeps-one-process.md" in err
    assert "name a PostgreSQL or MongoDB database by FLYTE_STORE" in err


def test_hup_usr1_and_usr2_leave_the_server_running(serve):
    server = serve()
    url = server.read_until(READY)[1]
    for number, said in (
        (signal.SIGHUP, "SIGHUP: no TLS certificate, auth policy or issuer to reload"),
        (signal.SIGUSR1, "The log goes to standard error"),
        (signal.SIGUSR2, "SIGUSR2 has no meaning here"),
    ):
        server.process.send_signal(number)
        server.read_until(said)
    assert httpx2.get(f"{url}/health").status_code == 200
    server.process.terminate()
    assert server.end()[0] == 0


def test_a_server_stops_with_its_terminal(tmp_path):
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("FLYTE_", "LOG"))
    }
    environ |= {
        "FLYTE_STORE": f"sqlite:///{tmp_path}/flyte.db",
        "FLYTE_PORT": "0",
        "LOGFILE": str(tmp_path / "log"),
    }
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if `nohup` has started the tests
        os.execve(sys.executable, [sys.executable, "-m", "flyteops", "serve"], environ)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and READY.search(log.read_text()))
    os.kill(process, signal.SIGHUP)
    wait_until(lambda: "SIGHUP: no " in log.read_text())
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert log.read_text().rstrip().endswith("flyte.server: stopped")


def test_after_usr1_the_log_goes_to_the_new_file(serve, tmp_path):
    log = tmp_path / "flyte.log"
    server = serve(LOGFILE=str(log))
    wait_until(lambda: log.exists() and READY.search(log.read_text()))
    log.rename(tmp_path / "flyte.log.1")
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: log.exists() and "The log file was reopened" in log.read_text())
    server.process.terminate()
    assert server.end()[0] == 0
    assert log.read_text().rstrip().endswith("flyte.server: stopped")
    assert "stopped" not in (tmp_path / "flyte.log.1").read_text()


def test_before_the_port_closes_the_server_is_not_ready_and_serves_for_the_delay(serve):
    server = serve(FLYTE_SHUTDOWN_DELAY="60")
    url = server.read_until(READY)[1]
    server.process.terminate()
    server.read_until("stopping in 60 s; until then requests are served")
    with httpx2.Client(base_url=url) as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["The server is stopping."])
        assert client.get("/health/live").status_code == 200
        assert client.post("/v1/packs", json={"name": "P"}).status_code == 201
    server.process.terminate()  # a second signal does not wait
    assert server.end()[0] == 0


def test_a_connection_without_requests_is_closed_after_the_idle_time(serve):
    server = serve(FLYTE_IDLE_TIMEOUT="1")
    port = int(server.read_until(READY)[1].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        began = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - began < 15
    server.process.terminate()
    assert server.end()[0] == 0
