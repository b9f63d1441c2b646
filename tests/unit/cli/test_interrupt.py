"""Ctrl-C ends a command quietly, whatever the libraries below it make of that."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import pytest

from flyteops.cli import command
from flyteops.cli.command import FlyteCommand
from flyteops.cli.root import INTERRUPTED, main, root
from flyteops.errors import UnavailableError


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Take SIGINT as a process does that a terminal has started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def end_at_once() -> None:
    await asyncio.Event().wait()


async def lose_the_first() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()


async def fail() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        raise UnavailableError("GET http://127.0.0.1: no answer in time") from error


async def succeed() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


@pytest.mark.parametrize("work", [end_at_once, lose_the_first, fail, succeed])
def test_an_interrupted_command_ends_without_a_word(work, monkeypatch, capsys):
    monkeypatch.setattr(command, "CANCEL_AGAIN", 0.01)

    async def run() -> None:
        asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGINT)
        await work()

    monkeypatch.setitem(root.commands, "waiting", FlyteCommand("waiting", callback=run))
    monkeypatch.setattr(root, "get_command", lambda _ctx, name: root.commands[name])
    monkeypatch.setattr(
        root, "resolve_command", lambda _ctx, args: (args[0], root.commands[args[0]], args[1:])
    )
    with pytest.raises(SystemExit) as ended:
        main(["waiting"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.strip()) == (INTERRUPTED, "", "")
