"""`flyte pack run` with several packs in one process, against a server on the loopback
interface.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from flyteops.sdk import Event
from tests.e2e.test_sdk_process import Loopback, free_port, program, result, until_logged

GREETER = """
from flyteops.sdk import Event, Pack

pack = Pack("Greeter")
greeted = pack.event("Greeted", payload=str)

@pack.command(events=[greeted])
async def greet(name: str) -> Event:
    return greeted(f"Hello {name}")

@pack.check("Mood")
async def mood() -> str:
    return "good"
"""

FRAGILE = """
import os, sys
from flyteops.sdk import Event, Pack

pack = Pack("Fragile")
done = pack.event("Done", payload=str)

@pack.command(events=[done])
async def do() -> Event:
    return done("done")

@pack.task
async def work() -> None:
    while True:
        await pack.sleep(0.01)
        if os.path.exists("break"):
            os.remove("break")
            HOW
"""

pytestmark = pytest.mark.slow

RUN = ("-m", "flyteops", "pack", "run")


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    loopback = Loopback()
    await loopback.start()
    yield loopback
    await loopback.stop()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greeter.py").write_text(GREETER)
    return tmp_path


def registered(server: Loopback) -> list[str]:
    return sorted(registration["name"] for registration in server.fake.registrations)


async def test_several_packs_share_a_process_and_stop_together(
    server: Loopback, folder: Path
) -> None:
    port = str(free_port())
    arguments = (
        "Shell",
        "Ticker",
        "greeter.py",
        "--name",
        "Shell=Bash",
        "--name",
        "greeter.py=Welcome",
    )
    async with (
        program(*RUN, *arguments, api=server.url, FLYTE_PACK_HEALTH_PORT=port) as process,
        httpx2.AsyncClient() as http,
    ):
        await server.fake.until(lambda: registered(server) == ["Bash", "Ticker", "Welcome"])
        assert await result(server, "Greet", "Ann", pack="Welcome") == Event("Greeted", "Hello Ann")
        assert (await result(server, "Shell", "echo hi", pack="Bash")).payload["stdout"] == "hi\n"
        answer = await http.get(f"http://localhost:{port}/")
        assert answer.status_code == 200
        assert {name: health["status"] for name, health in answer.json().items()} == {
            "DefaultCheck": "All packs are running.",
            "Bash": "Pack is running.",
            "Ticker": "Pack is running.",
            "Ticker/ticker": "working",
            "Welcome": "Pack is running.",
            "Welcome/Mood": "good",
        }
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize("how", ["raise ValueError('bang')", "sys.exit(7)"])
async def test_a_pack_that_fails_starts_again_and_the_others_do_not_notice(
    server: Loopback, folder: Path, how: str
) -> None:
    (folder / "fragile.py").write_text(FRAGILE.replace("HOW", how))
    async with program(*RUN, "fragile.py", "greeter.py", api=server.url) as process:
        assert await result(server, "Do", pack="Fragile") == Event("Done", "done")
        (folder / "break").touch()
        assert "flyte.pack [Fragile]" in await until_logged(
            process, "the background task work failed"
        )
        assert "Fragile failed: " in await until_logged(process, "restarting in")
        assert await result(server, "Greet", "Ann", pack="Greeter") == Event("Greeted", "Hello Ann")
        assert await result(server, "Do", pack="Fragile") == Event("Done", "done")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert registered(server) == ["Fragile", "Fragile", "Greeter"]


async def test_the_exit_code_tells_of_a_pack_that_does_not_work_at_the_end(
    server: Loopback, folder: Path
) -> None:
    (folder / "fragile.py").write_text(FRAGILE)
    server.fake.fail(1000, status=403, on="/v1/packs", pack="Fragile")
    async with program(*RUN, "fragile.py", "greeter.py", api=server.url) as process:
        await until_logged(process, "Fragile failed: This is not allowed.; restarting in")
        assert await result(server, "Greet", "Ann", pack="Greeter") == Event("Greeted", "Hello Ann")
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
        assert process.returncode == 1
    assert "Fragile, Greeter stopped: Fragile: This is not allowed." in stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (
            ["Shell", "Shell"],
            {},
            ["two packs are called Shell; rename one of them: --name PACK=NAME"],
        ),
        (["Shell", "Ticker", "--name", "X"], {}, ["which pack is X? Write PACK=X."]),
        (["Shell", "Ticker", "--name", "Chat=X"], {}, ["Chat is not one of the packs to run."]),
        (
            ["Shell", "Ticker"],
            {"PACK_NAME": "X"},
            ["PACK_NAME would give all of these packs the same name; use --name PACK=NAME."],
        ),
        (["Shell", "no_such.py"], {}, ["there is no file no_such.py"]),
        (
            ["Shell", "Ticker"],
            {"FLYTE_SHELL_TIMEOUT": "soon", "FLYTE_TICKER_INTERVAL": "0", "FLYTE_LABELS": "x"},
            [
                "FLYTE_SHELL_TIMEOUT: ",
                "FLYTE_TICKER_INTERVAL: ",
                "FLYTE_LABELS: 'x' is not of the form key=value",
            ],
        ),
    ],
)
async def test_what_cannot_be_run_is_told_before_anything_runs(
    server: Loopback, folder: Path, arguments: list[str], environ: dict[str, str], told: list[str]
) -> None:
    async with program(*RUN, *arguments, api=server.url, **environ) as process:
        _, stderr = await process.communicate()
    assert process.returncode in (1, 2)
    for text in told:
        assert stderr.decode().count(text) == 1
    assert server.fake.requests == []


async def test_the_checks_of_several_packs_are_told_apart(server: Loopback, folder: Path) -> None:
    async with program(*RUN, "Shell", "greeter.py", "--check", api=server.url) as process:
        stdout, _ = await process.communicate()
    assert process.returncode == 0
    assert stdout.decode().splitlines() == [
        f"Flyte: there is a server at {server.url}",
        "Greeter/Mood: good",
    ]


async def test_a_second_signal_breaks_off_all_of_them(server: Loopback, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    async with program(*RUN, "Shell", "greeter.py", api=server.url) as process:
        server.fake.ask("Shell", "exec 9>pipe; echo started >&9; sleep 1000", pack="Shell")
        with await asyncio.to_thread((folder / "pipe").open) as pipe:
            assert await asyncio.to_thread(pipe.readline) == "started\n"
            process.send_signal(signal.SIGTERM)
            await until_logged(process, "SIGTERM")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM
            assert await asyncio.to_thread(pipe.read) == ""
