"""What the Shell pack does with scripts."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyteops.errors import SettingsError
from flyteops.packs import shell
from flyteops.packs.shell import Output, ShellLimits, run_script
from flyteops.sdk import Event
from flyteops.sdk.testing import PackTester


def output(
    stdout: str = "", stderr: str = "", exit_code: int = 0, *, truncated: bool = False
) -> Event:
    cut = {"truncated": True} if truncated else {}
    return Event("Output", {"stdout": stdout, "stderr": stderr, "exit_code": exit_code} | cut)


async def run(command_input: Any, environ: dict[str, str] | None = None) -> Event:
    async with PackTester(shell.create(environ or {})) as tester:
        return await tester.run("Shell", command_input)


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Watch a named pipe, which ends when the last process that holds it is gone."""
    os.mkfifo(path)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        yield reader
    finally:
        transport.close()


async def test_the_registration_is_that_of_the_shell_pack() -> None:
    async with PackTester(shell.create({})) as tester:
        (registration,) = tester.server.registrations
    assert registration == {
        "name": "Shell",
        "events": [{"name": "Output", "payloadSchema": msgspec.json.schema(shell.Output)}],
        "commands": [{"name": "Shell", "events": ["Output"]}],
        "links": [],
    }


async def test_output_is_handed_on_as_it_is_whatever_the_exit_code() -> None:
    assert await run("echo out; echo err >&2; exit 3") == output("out\n", "err\n", 3)


async def test_bash_is_used_where_there_is_one() -> None:
    assert await run("[[ ab == a* ]] && echo yes") == output("yes\n")


async def test_plain_sh_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await run("echo $0") == output(f"{tmp_path}/sh\n")


async def test_without_any_shell_the_output_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await run("echo") == output(stderr="neither bash nor sh was found", exit_code=127)


@pytest.mark.parametrize("nothing", ["", None])
async def test_no_script_is_an_error(nothing: str | None) -> None:
    assert await run(nothing) == output(stderr="No script supplied to handler", exit_code=1)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [({"a": 1}, "an object"), (["ls"], "an array"), (3, "a number"), (True, "a boolean")],
)
async def test_what_is_not_a_string_is_an_error(wrong: Any, what: str) -> None:
    assert await run(wrong) == output(
        stderr=f"the input must be a JSON string, not {what}", exit_code=1
    )


async def test_a_nul_in_the_script_is_an_error_and_no_crash() -> None:
    assert await run("echo a\0b") == output(
        stderr="the script cannot be run: embedded null byte", exit_code=1
    )


async def test_a_script_that_is_too_long_for_the_system_is_an_error_and_no_crash() -> None:
    event = await run("#" * 3_000_000)
    assert event.payload["exit_code"] == 1
    assert "Argument list too long" in event.payload["stderr"]


async def test_death_by_a_signal_has_the_exit_code_minus_one() -> None:
    assert await run("kill -9 $$") == output(exit_code=-1)


async def test_the_script_reads_nothing_and_sees_the_packs_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLOUR", "green")
    assert await run('cat; echo "$COLOUR"') == output("green\n")


async def test_bytes_that_are_not_text_are_replaced() -> None:
    assert await run(r"printf '\xff\xfea\303\244'") == output("\ufffd\ufffdaä")


async def test_each_stream_is_cut_at_its_limit_and_the_cut_is_marked() -> None:
    note = "[stdout was cut: 5 of 9 bytes are kept]"
    event = await run("printf 'aä%.0s' 1 2 3; echo oops >&2", {"FLYTE_SHELL_OUTPUT_LIMIT": "5"})
    assert event == output(f"aäa\n{note}", f"oops\n{note}", truncated=True)
    event = await run("printf 123456 >&2", {"FLYTE_SHELL_OUTPUT_LIMIT": "5"})
    assert event == output(stderr="12345\n[stderr was cut: 5 of 6 bytes are kept]", truncated=True)


@pytest.mark.parametrize(
    "script",
    [
        "head -c 9000 /dev/zero",
        "head -c 9000 /dev/zero | tr '\\0' x",
        "head -c 9000 /dev/zero | tr '\\0' '\\377'",
        "head -c 9000 /dev/zero >&2",
        "head -c 9000 /dev/zero; head -c 9000 /dev/zero | tr '\\0' '\\n' >&2",
        "printf 'ä☃%.0s' {1..3000}; exit 3",
    ],
)
@pytest.mark.parametrize("environ", [{}, {"FLYTE_SHELL_OUTPUT_LIMIT": "1000000"}])
async def test_output_is_cut_to_what_the_server_accepts_and_the_command_is_answered(
    script: str, environ: dict[str, str]
) -> None:
    tester = PackTester(shell.create(environ))
    tester.server.body_limit = 8000
    async with tester:
        event = await tester.run("Shell", script)
    assert (event.name, event.payload["truncated"]) == ("Output", True)
    assert " was cut: " in event.payload["stdout"] + event.payload["stderr"]
    length = len(msgspec.json.encode(event.payload))
    assert length > (3000 if not environ else 7000)


async def test_output_that_the_server_accepts_is_not_cut() -> None:
    tester = PackTester(shell.create({}))
    tester.server.body_limit = 4_000_000
    async with tester:
        event = await tester.run("Shell", "head -c 1900000 /dev/zero | tr '\\0' x; echo small >&2")
    assert event == output("x" * 1_900_000, "small\n")


async def test_huge_output_is_read_to_its_end_and_not_kept() -> None:
    result = await run_script("head -c 200000000 /dev/zero; echo end >&2", ShellLimits(output=10))
    assert result.stderr == "end\n[stdout was cut: 10 of 200000000 bytes are kept]"


@pytest.mark.slow
async def test_a_script_that_takes_too_long_is_killed_with_all_its_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    async with watched(pipe) as held:
        script = f"exec 9>{pipe}; echo started >&9; sleep 1000 & echo waiting; sleep 1000"
        event = await run(script, {"FLYTE_SHELL_TIMEOUT": "300ms"})
        assert event == output("waiting\n", "[the script was killed after 0.3 s]", 124)
        assert await held.read() == b"started\n"  # to its end: nobody is left who holds the pipe


@pytest.mark.slow
async def test_a_script_that_does_not_listen_to_reason_is_killed_by_force(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    async with watched(pipe) as held:
        script = f"exec 9>{pipe}; echo started >&9; trap '' TERM; while :; do sleep 1000; done"
        assert (await run_script(script, ShellLimits(timeout=0.2))).exit_code == 124
        assert await held.read() == b"started\n"


async def test_a_child_in_the_background_does_not_hang_the_pack() -> None:
    event = await run("sleep 1000 & echo $!")
    os.kill(int(event.payload["stdout"]), 15)  # it lives on, so nothing has waited for it
    assert event.payload["exit_code"] == 0


async def test_a_script_is_killed_when_its_caller_gives_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    async with watched(pipe) as held:
        running = asyncio.create_task(
            run_script(f"exec 9>{pipe}; echo started >&9; sleep 1000 & wait", ShellLimits())
        )
        assert await held.readline() == b"started\n"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await held.read() == b""


async def test_many_scripts_run_at_the_same_time() -> None:
    pack = shell.create({})
    async with PackTester(pack) as tester:
        results = await asyncio.gather(
            *(tester.run("Shell", f"echo {number}") for number in range(30))
        )
    assert [event.payload["stdout"] for event in results] == [f"{number}\n" for number in range(30)]


# ----------------------------------------------------------------- programs, variables and the rest

NASTY = ["$(id)", "`id`", "a b", "it's", '"', "*", "; id", "-n", "\\", "a\nb", "", "ä"]


async def test_arguments_reach_a_program_as_they_are() -> None:
    event = await run({"argv": ["printf", "<%s>", *NASTY]})
    assert event == output("".join(f"<{text}>" for text in NASTY))


async def test_variables_reach_a_script_as_they_are() -> None:
    env = {f"TEXT_{number}": text for number, text in enumerate(NASTY)}
    script = "; ".join(f'printf "<%s>" "${name}"' for name in env)
    assert await run({"script": script, "env": env}) == output(
        "".join(f"<{text}>" for text in NASTY)
    )


async def test_variables_are_added_to_those_of_the_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "green")
    monkeypatch.setenv("SHAPE", "round")
    assert await run(
        {"argv": ["printenv", "COLOUR", "SHAPE"], "env": {"SHAPE": "square"}}
    ) == output("green\nsquare\n")


async def test_a_text_can_be_read_from_the_standard_input() -> None:
    assert await run({"argv": ["cat"], "stdin": "a\n$(id)\0b"}) == output("a\n$(id)\0b")
    assert await run({"script": "cat; cat", "stdin": "once"}) == output("once")


async def test_a_program_that_does_not_read_its_input_is_not_held_up() -> None:
    assert await run({"argv": ["echo", "done"], "stdin": "x" * 1_000_000}) == output("done\n")


async def test_a_program_runs_in_the_folder_that_is_named(tmp_path: Path) -> None:
    assert await run({"argv": ["pwd"], "cwd": str(tmp_path)}) == output(f"{tmp_path}\n")
    event = await run({"argv": ["pwd"], "cwd": str(tmp_path / "nowhere")})
    assert event.payload["exit_code"] == 1
    assert "nowhere" in event.payload["stderr"]


async def test_an_input_may_shorten_the_time_limit_but_not_extend_it() -> None:
    event = await run({"argv": ["sleep", "30"], "timeout": "50ms"})
    assert event == output(stderr="[the program was killed after 0.05 s]", exit_code=124)
    event = await run({"argv": ["sleep", "30"], "timeout": 60}, {"FLYTE_SHELL_TIMEOUT": "50ms"})
    assert event.payload["exit_code"] == 124


async def test_a_program_that_is_not_there_has_the_exit_code_of_shells(tmp_path: Path) -> None:
    event = await run({"argv": ["no-such-program"]})
    assert event == output(
        stderr="the program 'no-such-program' is not on the PATH of the pack", exit_code=127
    )
    assert (await run({"argv": ["/no/such/program"]})).payload["exit_code"] == 127
    (tmp_path / "text").write_text("no program")
    assert (await run({"argv": ["./text"], "cwd": str(tmp_path)})).payload["exit_code"] == 126


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"args": ["ls"]},
            ["args: is not known; did you mean 'argv'?", "needs 'script' (text) or 'argv'"],
        ),
        ({"script": "ls", "argv": ["ls"]}, ["argv: does not go with script"]),
        ({"argv": []}, ["needs 'script' (text) or 'argv'"]),
        ({"argv": "ls"}, ["argv: must be a list of texts, not text"]),
        ({"argv": [""]}, ["argv[0]: must name a program"]),
        (
            {"argv": ["sleep", 5, None]},
            [
                "argv[1]: must be text, not a number; put it in quotes",
                "argv[2]: must be text, not null",
            ],
        ),
        ({"argv": ["echo", "a\0b"]}, ["argv[1]: must not contain a NUL character"]),
        ({"script": "a\0b"}, ["script: must not contain a NUL character"]),
        (
            {
                "script": "ls",
                "env": {"A=B": "x", "1": "x", "": "x", "BASH_FUNC_ls%%": "() { id; }"},
            },
            ["'A=B' is not the name of a var"],
        ),
        (
            {"script": "ls", "env": {"A": "a\0b", "B": 1}},
            ["env.A: must not contain a NUL", "env.B: must be text, not a number"],
        ),
        ({"script": "ls", "env": ["A"]}, ["env: must be an object, not an array"]),
        ({"script": "ls", "stdin": 3}, ["stdin: must be text"]),
        ({"script": "ls", "cwd": True}, ["cwd: must be text, not a boolean"]),
        ({"script": "ls", "timeout": "soon"}, ["timeout: "]),
        ({"script": "ls", "timeout": 0}, ["timeout: '0' is not longer than zero"]),
        (
            {"script": "ls", "timeout": True},
            ["timeout: must be a length of time such as 30s, not a boolean"],
        ),
    ],
)
async def test_everything_wrong_with_an_input_is_reported(wrong: Any, words: list[str]) -> None:
    event = await run(wrong)
    assert (event.payload["stdout"], event.payload["exit_code"]) == ("", 1)
    assert not [text for text in words if text not in event.payload["stderr"]]


async def test_null_counts_as_absent() -> None:
    nothing = dict.fromkeys(("argv", "env", "stdin", "cwd", "timeout"))
    assert await run({"script": "echo a", **nothing}) == output("a\n")


def test_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        shell.create({"FLYTE_SHELL_TIMEOUT": "0", "FLYTE_SHELL_OUTPUT_LIMIT": "1 MiB"})
    assert [str(problem) for problem in caught.value.problems] == [
        "FLYTE_SHELL_TIMEOUT: '0' is not longer than zero",
        "FLYTE_SHELL_OUTPUT_LIMIT: '1 MiB' is not a number of bytes",
    ]


def test_the_defaults_are_generous() -> None:
    assert ShellLimits() == ShellLimits(timeout=3600, output=1024 * 1024)
    assert Output("", "", 0) == Output(stdout="", stderr="", exit_code=0)


@pytest.mark.parametrize(
    ("script", "is_failure"), [("true", False), ("exit 3", True), ({"argv": []}, True)]
)
async def test_an_exit_code_other_than_0_is_sent_as_a_failure(
    script: Any, is_failure: bool
) -> None:
    async with PackTester(shell.create({})) as tester:
        await tester.run("Shell", script)
        assert bool(tester.server.failed) == is_failure
