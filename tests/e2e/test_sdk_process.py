"""Packs as programs, against a server on the loopback interface."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import h11
import httpx2
import pytest

from flyteops.sdk import Event
from flyteops.sdk.testing import FakeServer

pytestmark = pytest.mark.slow

PACK = """
import sys
from flyteops.sdk import Event, Pack

pack = Pack("Greeter", poll_interval=0.05)
greeted = pack.event("Greeted", payload=str)

@pack.command(events=[greeted])
async def greet(name: str) -> Event:
    return greeted(f"Hello {name}")

@pack.command(events=[greeted])
def wait_for(pipe: str) -> Event:
    print("started", flush=True)
    return greeted(open(pipe).read())

@pack.command(events=[greeted])
async def hang() -> Event:
    import asyncio
    print("started", flush=True)
    await asyncio.Event().wait()
    return greeted("never")

@pack.check("Disk")
async def disk() -> str:
    import os
    return os.environ["DISK"]

pack.run()
"""


class Loopback:
    """Serve a `FakeServer` over real connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.fake = FakeServer()
        self.port = free_port()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://localhost:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls
        )

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.fake.let_go()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._server is None:  # it was accepted when the end had been said already
            writer.close()
        connection = h11.Connection(h11.SERVER)
        with contextlib.suppress(OSError, h11.RemoteProtocolError):
            while (request := await self._read(connection, reader)) is not None:
                answer = await self._answer(request, reader)
                if answer is None:
                    break
                body = await answer.aread()
                headers = [
                    (key, value)
                    for key, value in answer.headers.items()
                    if key.lower() != "content-length"
                ]
                if answer.status_code != 204:
                    headers.append(("Content-Length", str(len(body))))
                for event in (
                    h11.Response(status_code=answer.status_code, headers=headers),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    writer.write(connection.send(event) or b"")
                await writer.drain()
                connection.start_next_cycle()
        self._writers.discard(writer)
        writer.close()

    async def _answer(
        self, request: httpx2.Request, reader: asyncio.StreamReader
    ) -> httpx2.Response | None:
        """Answer as the real server does: who has gone is not given work that others could do."""
        answering = asyncio.create_task(self.fake.handle_async_request(request))
        gone = asyncio.create_task(reader.read(1))  # nothing else comes before the answer
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        other = gone if answering.done() else answering
        other.cancel()
        await asyncio.wait({other})
        return None if other is answering else answering.result()

    async def _read(
        self, connection: h11.Connection, reader: asyncio.StreamReader
    ) -> httpx2.Request | None:
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                url = self.url + request.target.decode()
                headers = [(key.decode(), value.decode()) for key, value in request.headers]
                return httpx2.Request(request.method.decode(), url, headers=headers, content=body)
            else:
                return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    loopback = Loopback()
    await loopback.start()
    yield loopback
    await loopback.stop()


@contextlib.asynccontextmanager
async def program(*arguments: str | Path, api: str, **variables: str) -> AsyncIterator[Process]:
    """Run a Python program, and see to it that it is gone at the end."""
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "SSL_"))
    }
    environ |= {
        "FLYTE_API": api,
        "FLYTE_PACK_HEALTH_PORT": "off",
        "PYTHONUNBUFFERED": "1",
        "DISK": "much space",
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *arguments, env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def greeter(tmp_path: Path) -> Path:
    path = tmp_path / "greeter.py"
    path.write_text(PACK)
    return path


async def until_logged(process: Process, text: str) -> str:
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if text in line:
            return line
    message = f"the program ended without {text!r} in its log"
    raise AssertionError(message)


async def printed(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().rstrip("\n")


async def result(
    server: Loopback, command: str, command_input: object = None, *, pack: str | None = None
) -> Event:
    action_id = server.fake.ask(command, command_input, pack=pack)
    await server.fake.until(lambda: action_id in server.fake.results)
    return server.fake.results[action_id]


async def test_a_pack_that_starts_before_its_server_registers_when_it_is_there(
    greeter: Path,
) -> None:
    server = Loopback()
    async with program(greeter, api=server.url) as process:
        await until_logged(process, "registration failed")
        await server.start()
        assert await result(server, "Greet", "Ann") == Event("Greeted", "Hello Ann")
    await server.stop()


async def test_a_result_outlives_a_server_in_trouble(server: Loopback, greeter: Path) -> None:
    server.fake.fail(2, status=500, on="/result")
    async with program(greeter, api=server.url):
        assert await result(server, "Greet", "Ann") == Event("Greeted", "Hello Ann")
    assert sum(call.endswith("/result") for call in server.fake.requests) == 3


async def test_a_pack_whose_server_lost_it_registers_again(server: Loopback, greeter: Path) -> None:
    async with program(greeter, api=server.url):
        await result(server, "Greet", "Ann")
        server.fake.forget_pack()
        assert await result(server, "Greet", "Bob") == Event("Greeted", "Hello Bob")
    assert len(server.fake.registrations) == 2


async def test_a_pack_goes_on_after_its_server_restarted(server: Loopback, greeter: Path) -> None:
    async with program(greeter, api=server.url) as process:
        await result(server, "Greet", "Ann")
        await server.stop()
        await until_logged(process, "take failed")
        await server.start()
        assert await result(server, "Greet", "Bob") == Event("Greeted", "Hello Bob")


async def test_sigterm_lets_a_running_command_finish(
    server: Loopback, greeter: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with program(greeter, api=server.url) as process:
        action_id = server.fake.ask("WaitFor", str(pipe))
        assert await printed(process) == "started"
        process.send_signal(signal.SIGTERM)
        await until_logged(process, "SIGTERM: finishing work in progress")
        await asyncio.to_thread(pipe.write_text, "goodbye")
        assert await process.wait() == 0
    assert server.fake.results == {action_id: Event("Greeted", "goodbye")}


async def test_a_function_that_blocks_stops_neither_takes_nor_health(
    server: Loopback, greeter: Path, tmp_path: Path
) -> None:
    pipe, port = tmp_path / "pipe", str(free_port())
    os.mkfifo(pipe)
    async with (
        program(greeter, api=server.url, FLYTE_PACK_HEALTH_PORT=port) as process,
        httpx2.AsyncClient() as http,
    ):
        action_id = server.fake.ask("WaitFor", str(pipe))
        assert await printed(process) == "started"
        assert await result(server, "Greet", "Ann") == Event("Greeted", "Hello Ann")
        assert (await http.get(f"http://localhost:{port}/")).status_code == 200
        await asyncio.to_thread(pipe.write_text, "at last")
        await server.fake.until(lambda: action_id in server.fake.results)
    assert server.fake.results[action_id] == Event("Greeted", "at last")


async def test_what_does_not_finish_in_time_is_told_to_the_server(
    server: Loopback, greeter: Path
) -> None:
    async with program(greeter, api=server.url, FLYTE_PACK_STOP_TIMEOUT="100ms") as process:
        server.fake.ask("Hang")
        assert await printed(process) == "started"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert list(server.fake.results.values()) == [
        Event("FATAL", "Greeter was stopped before Hang ended")
    ]


async def test_the_second_signal_ends_the_pack_at_once(server: Loopback, greeter: Path) -> None:
    async with program(greeter, api=server.url) as process:
        server.fake.ask("Hang")
        assert await printed(process) == "started"
        process.send_signal(signal.SIGTERM)
        await until_logged(process, "SIGTERM")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
    assert server.fake.results == {}


async def test_a_thread_that_never_ends_does_not_keep_the_pack(
    server: Loopback, greeter: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with program(greeter, api=server.url, FLYTE_PACK_STOP_TIMEOUT="0") as process:
        server.fake.ask("WaitFor", str(pipe))
        assert await printed(process) == "started"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), timeout=15) == 0
    assert list(server.fake.results.values()) == [
        Event("FATAL", "Greeter was stopped before WaitFor ended")
    ]


async def test_scripts_do_not_outlive_a_shell_pack_that_is_broken_off(
    server: Loopback, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with program("-m", "flyteops.packs.shell", api=server.url) as process:
        server.fake.ask("Shell", f"exec 9>{pipe}; echo started >&9; sleep 1000")
        with await asyncio.to_thread(pipe.open) as reader:
            assert await asyncio.to_thread(reader.readline) == "started\n"
            process.send_signal(signal.SIGTERM)
            await until_logged(process, "SIGTERM")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(reader.read) == ""  # to its end: the script is gone
            assert await process.wait() == 128 + signal.SIGTERM


async def test_a_wrong_environment_is_explained_and_exits_with_2(greeter: Path) -> None:
    async with program(
        greeter, api="", FLYTE_LABELS="x", FLYTE_CA_CERT_FILE="/no/such.pem"
    ) as process:
        _, stderr = await process.communicate()
    assert process.returncode == 2
    assert stderr.decode().splitlines() == [
        "Greeter: the environment is not valid:",
        "  FLYTE_API: is not set: the server's address, such as http://localhost:8080",
        "  FLYTE_LABELS: 'x' is not of the form key=value",
        (
            "  FLYTE_CA_CERT_FILE: cannot read certificates from '/no/such.pem': No such file or"
            " directory"
        ),
    ]


async def test_a_pack_that_is_refused_says_why_and_exits_with_1(
    server: Loopback, greeter: Path
) -> None:
    server.fake.fail(status=401, on="/v1/packs")
    async with program(greeter, api=server.url) as process:
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert "Greeter stopped: A token is required." in stderr.decode()


async def test_health_follows_the_connection_to_the_server(server: Loopback, greeter: Path) -> None:
    port = str(free_port())
    async with (
        program(greeter, api=server.url, FLYTE_PACK_HEALTH_PORT=port) as process,
        httpx2.AsyncClient() as http,
    ):
        await result(server, "Greet", "Ann")
        answer = await http.get(f"http://localhost:{port}/any/path")
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "DefaultCheck": {"healthy": True, "status": "Pack is running."},
                "Disk": {"healthy": True, "status": "much space"},
            },
        )
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        await server.stop()
        await until_logged(process, "take failed")
        answer = await http.post(f"http://localhost:{port}/")
        assert answer.status_code == 500
        assert answer.json()["DefaultCheck"]["healthy"] is False


async def test_one_check_that_fails_makes_a_pack_unhealthy(
    server: Loopback, tmp_path: Path
) -> None:
    port, path = str(free_port()), tmp_path / "pack.py"
    path.write_text(PACK.replace('os.environ["DISK"]', 'os.environ["NO_DISK"]'))
    async with (
        program(path, api=server.url, FLYTE_PACK_HEALTH_PORT=port),
        httpx2.AsyncClient() as http,
    ):
        await result(server, "Greet", "Ann")
        answer = await http.get(f"http://localhost:{port}/")
    assert answer.status_code == 500
    assert answer.json() == {
        "DefaultCheck": {"healthy": True, "status": "Pack is running."},
        "Disk": {"healthy": False, "status": "KeyError: 'NO_DISK'"},
    }


async def test_a_script_does_not_read_what_the_pack_could(server: Loopback) -> None:
    async with program("-m", "flyteops.packs.shell", api=server.url):
        output = await result(server, "Shell", "cat; echo end")
    assert output == Event("Output", {"stdout": "end\n", "stderr": "", "exit_code": 0})


async def test_a_health_port_in_use_does_not_stop_the_pack(server: Loopback, greeter: Path) -> None:
    async with program(greeter, api=server.url, FLYTE_PACK_HEALTH_PORT=str(server.port)) as process:
        await until_logged(process, f"no health endpoint on port {server.port}")
        assert await result(server, "Greet", "Ann") == Event("Greeted", "Hello Ann")


@pytest.fixture
async def certificate(tmp_path: Path) -> Path:
    """Make a certificate for localhost that no system trusts, with its key in the same file."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "this test needs the openssl command"
    path = tmp_path / "server.pem"
    process = await asyncio.create_subprocess_exec(
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(tmp_path / "key.pem"),
        "-out",
        str(path),
        stderr=PIPE,
    )
    await process.communicate()
    assert process.returncode == 0
    return path


async def test_a_server_with_a_certificate_of_our_own_is_trusted_only_if_told_so(
    certificate: Path, greeter: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = Loopback(context)
    await server.start()
    async with program(greeter, api=server.url) as process:
        assert "FLYTE_CA_CERT_FILE names a file" in await until_logged(
            process, "registration failed"
        )
    async with program(greeter, api=server.url, FLYTE_CA_CERT_FILE=str(certificate)):
        assert await result(server, "Greet", "Ann") == Event("Greeted", "Hello Ann")
    await server.stop()


async def test_the_chat_pack_talks_through_pipes(server: Loopback) -> None:
    async with program(
        "-m", "flyteops.packs.chat", api=server.url, USER="ann", PACK_NAME="Slack"
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"deploy app\n")
        await server.fake.until(lambda: server.fake.events)
        payload = server.fake.events[0].payload
        assert payload["message"] == "deploy app"
        await result(server, "SendMessage", {"message": "done", "channelId": payload["channelId"]})
        line = await printed(process)
        assert line.startswith("[#general ")
        assert line.endswith("] flyte: done")
        process.stdin.close()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert server.fake.registrations[0]["name"] == "Slack"
