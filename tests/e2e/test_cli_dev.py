"""`flyte dev` as a newcomer meets it, and what it leaves behind: nothing."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from flyteops.cli.dev.lockfile import FolderLock

FLOW = """\
name: who
steps:
  - id: ask
    event: {packName: Chat, name: ReceivedMessage}
    criteria: "{{ Event.Payload.message|match:'^who is there$' }}"
    context: {channel: "{{ Event.Payload.channelId }}", thread: "{{ Event.Payload.threadTimestamp }}"}
    command: {packName: Shell, name: Shell, input: "echo $PPID $(cat \\"$FLYTE_EXAMPLES/word.txt\\")"}
  - id: answer
    dependsOn: [ask]
    event: {packName: Shell, name: Output}
    command:
      packName: Chat
      name: SendMessage
      input:
        channelId: "{{ Context.channel }}"
        threadTimestamp: "{{ Context.thread }}"
        message: "process {{ Event.Payload.stdout }} of {{ datastore('place') }}"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with flows, a file and a datastore item."""
    examples = tmp_path / "examples"
    (examples / "datastore").mkdir(parents=True)
    (examples / "who.yaml").write_text(FLOW)
    (examples / "word.txt").write_text("answers")
    (examples / "datastore" / "place.txt").write_text("this desk")
    for name in [name for name in os.environ if name.startswith("FLYTE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    # Nobody answers the question where the cursor is.
    monkeypatch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")
    return tmp_path


@pytest.fixture
def dev(place):
    """`flyte dev` on a terminal, on any free port; at the end nothing of it may be left."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "flyteops", "dev", "--port", "0"],
        cwd=str(place),
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 160),
    )
    yield child
    if child.isalive():
        child.kill(signal.SIGKILL)
    child.close()


def children_of(pid):
    """The processes that a process has started, by id."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_gone(pids):
    """Wait for the end of processes that are not ours."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor, "rb", 0) as ending:
            assert select.select([ending], [], [], 20)[0], f"process {pid} goes on"


def still_there(pids):
    """Those of these processes that have not ended."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def ready(dev):
    dev.expect("Ctrl-D stops everything")
    dev.expect("#general> ")
    children = children_of(dev.pid)
    assert len(children) == 3
    return children


def test_a_message_runs_a_command_in_another_process_and_the_answer_appears(dev):
    dev.expect(r"Flyte \S+ runs at http://127.0.0.1:\d+")
    dev.expect("packs  Shell, Ticker, Chat")
    dev.expect("flows  who")
    dev.expect("try    who is there")
    children = ready(dev)
    dev.send("who is there\r")
    dev.expect(r"1 \w+: who is there")
    dev.expect(r"2     ↳1 flyte: process (\d+) answers")
    assert int(dev.match[1]) in children
    dev.send("/channel lab\r")
    dev.expect("#lab> ")
    dev.send("/nonsense\r")
    dev.expect("! unknown command /nonsense")
    dev.sendeof()
    dev.expect(pexpect.EOF)
    dev.close()
    assert (dev.exitstatus, dev.signalstatus) == (0, None)
    assert not still_there(children)


@pytest.mark.slow
def test_ctrl_c_ends_everything_without_a_word_in_the_log(dev, place):
    children = ready(dev)
    dev.send("half a li")
    dev.expect("half a li")
    dev.sendintr()
    dev.send("a whole line\r")  # the first Ctrl-C throws away what stands on the line
    dev.expect(r"1 \w+: a whole line")
    dev.sendintr()
    dev.expect(pexpect.EOF)
    dev.close()
    assert (dev.exitstatus, dev.signalstatus) == (0, None)
    assert not still_there(children)
    assert (place / ".flyte" / "chat.log").read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_is_left_behind_however_it_ends(dev, number):
    children = ready(dev)
    os.kill(dev.pid, number)
    dev.expect(pexpect.EOF)
    dev.close()
    if number == signal.SIGKILL:
        wait_until_gone(children)
    else:
        assert (dev.exitstatus, dev.signalstatus) == (0, None)
        assert not still_there(children)


@pytest.mark.slow
def test_closing_the_terminal_ends_everything(dev):
    children = ready(dev)
    dev.ptyproc.fileobj.close()
    wait_until_gone([dev.pid, *children])


def run(place, *args, **options):
    command = [sys.executable, "-m", "flyteops", "dev", *args]
    return subprocess.run(
        command, cwd=place, text=True, capture_output=True, check=False, **options
    )


@pytest.mark.slow
def test_lines_from_a_pipe_are_answered_and_then_everything_ends(place):
    done = run(place, "--port", "0", input="who is there\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^\[#general [\d. in]+\] flyte: process \d+ answers", done.stdout, re.MULTILINE
    )
    logs = {log.name: log.stat().st_mode & 0o777 for log in (place / ".flyte").glob("*.log")}
    assert logs == dict.fromkeys(("server.log", "shell.log", "ticker.log", "chat.log"), 0o600)


@pytest.mark.slow
def test_without_flows_of_its_own_there_is_one_to_begin_with(place):
    (place / "examples").rename(place / "elsewhere")
    done = run(place, "--port", "0", input="hello\n")
    assert "try    hello" in done.stdout
    url = re.search(r"runs at (\S+)", done.stdout)[1]
    assert f"In other terminals: export FLYTE_API={url}\n" in done.stdout
    assert re.search(r"flyte: Hello \S+! It is \d\d:\d\d", done.stdout)


@pytest.mark.slow
def test_a_child_that_fails_is_told_with_its_last_words(place):
    done = run(place, "--port", "0", "--pack", "NoSuchPack", stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 1
    assert (
        "flyte: the process NoSuchPack has ended by itself, with exit code 1; .flyte/nosuchpack.log"
        " ends with\n" in done.stderr
    )
    assert "there is no pack 'NoSuchPack'" in done.stderr


@pytest.mark.slow
def test_a_second_one_in_the_same_folder_is_another_chat_with_the_first(dev, place):
    ready(dev)
    second = pexpect.spawn(
        sys.executable,
        ["-m", "flyteops", "dev"],
        cwd=str(place),
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 160),
    )
    second.expect(
        rf"A Flyte server is already running here \(process {dev.pid}\), so this chat joins it"
    )
    second.expect(r"at (http://127.0.0.1:\d+)")
    url = second.match[1]
    second.expect("#general> ")
    second.sendeof()
    second.expect(pexpect.EOF)
    second.close()
    assert (second.exitstatus, second.signalstatus) == (0, None)
    for done in (
        run(place, stdin=subprocess.DEVNULL),
        run(place, "--flows", "examples", stdin=subprocess.DEVNULL),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        runs = f"flyte: a Flyte server is already running here (process {dev.pid}), at {url}"
        assert done.stderr == f"{runs}; to talk to it: flyte chat --url {url}\n"


def test_one_that_runs_here_but_does_not_answer_is_told_with_how_to_end_it(place):
    (place / ".flyte").mkdir()
    with socket.socket() as silent, FolderLock(place / ".flyte") as tenancy:
        silent.bind(("127.0.0.1", 0))
        beginning = run(place, stdin=subprocess.DEVNULL)
        tenancy.tell(f"http://127.0.0.1:{silent.getsockname()[1]}")
        unwell = run(place, stdin=subprocess.DEVNULL)
    assert (beginning.returncode, unwell.returncode) == (1, 1)
    assert "is still starting; try again in a moment" in beginning.stderr
    assert unwell.stderr.endswith(f"if that lasts, end it with: kill {os.getpid()}\n")


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(place, "--port", str(taken.getsockname()[1]), stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert re.fullmatch(
        r"flyte: port \d+ of 127.0.0.1 is in use by another program, .*\n", done.stderr
    )


def test_a_prompt_without_what_it_needs_says_so_before_anything_else(place):
    code = (
        "import sys; sys.modules['prompt_toolkit'] = None; from flyteops.cli import main;"
        " main(['chat'])"
    )
    child = pexpect.spawn(
        sys.executable,
        ["-c", code],
        cwd=str(place),
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 160),
    )
    said = child.read()
    child.close()
    assert child.exitstatus == 1
    assert (
        re.sub(r"\x1b\[\d+m", "", said) == 'flyte: `flyte chat` needs pip install -e ".[server]"'
        " in the folder of Flyte's source; prompt_toolkit is not installed\r\n"
    )
