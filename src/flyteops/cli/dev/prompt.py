"""The prompt of the chat on a terminal; messages of flows appear above it."""

import asyncio
import contextlib

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from flyteops.cli.dev.conversation import Conversation


async def chat_on_terminal(talk: Conversation, stop: asyncio.Event) -> None:
    """Read lines at a prompt and execute them, until the person leaves or `stop` is set."""
    # A KeyboardInterrupt in a task would tear the loop down, so Ctrl-C on an empty line is reported
    # like Ctrl-D.
    session: PromptSession[str] = PromptSession(
        erase_when_done=True, interrupt_exception=EOFError, key_bindings=_keys()
    )
    saying: set[asyncio.Task[None]] = set()
    stopped = asyncio.create_task(stop.wait())
    with patch_stdout(raw=True):
        while not talk.is_over:
            asking = asyncio.create_task(
                session.prompt_async(lambda: ANSI(_prompt(talk)), handle_sigint=False)
            )
            await asyncio.wait({asking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError, EOFError):
                    await asking
                break
            try:
                line = asking.result()
            except EOFError:
                break
            obeying = asyncio.create_task(talk.obey(line))
            saying.add(obeying)
            obeying.add_done_callback(saying.discard)
            await asyncio.wait({obeying}, timeout=0.05)
    stopped.cancel()
    for task in saying:
        task.cancel()


def _keys() -> KeyBindings:
    """Let Ctrl-C discard the current line, as in a shell."""
    keys = KeyBindings()

    @keys.add("c-c", filter=Condition(lambda: bool(get_app().current_buffer.text)))
    def clear(event: KeyPressEvent) -> None:
        event.current_buffer.reset()

    return keys


def _prompt(talk: Conversation) -> str:
    return click.style(f"{talk.place}> ", fg="cyan")
