"""Shell: runs a script, or a program with arguments, and reports its output."""

import asyncio
import codecs
import contextlib
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL, Process
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO, Any

import msgspec

from flyteops.errors import InputError
from flyteops.packs import run
from flyteops.packs.invocation import Invocation, read_invocation
from flyteops.packs.limit import USUAL, default_length, max_payload_bytes
from flyteops.sdk import Event, Pack, Reader
from flyteops.sdk.environment import byte_count, positive_seconds

TIMEOUT_EXIT_CODE = 124
NOT_FOUND_EXIT_CODE = 127
NOT_EXECUTABLE_EXIT_CODE = 126
INPUT_EXIT_CODE = 1
SIGNAL_EXIT_CODE = -1

_CHUNK = 65536
_KILL_AFTER = 2.0
_PIPES_OPEN_AFTER = 0.5
_GROUP_CHECK_EVERY = 0.02


class Output(msgspec.Struct, omit_defaults=True):
    """The output of a script as text, and its exit; `truncated` means that some was not kept."""

    stdout: str
    stderr: str
    exit_code: int
    truncated: bool = False


class ShellLimits(msgspec.Struct, frozen=True):
    """The time limit of a script, in seconds, and the number of bytes kept of each output stream.

    Both streams together take at most `room` bytes as JSON texts (None: any number).
    """

    timeout: float = 3600.0
    output: int = USUAL
    room: int | None = None


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack.

    `FLYTE_SHELL_TIMEOUT` and `FLYTE_SHELL_OUTPUT_LIMIT` (bytes of each stream) are its settings.
    """
    reader = Reader(environ)
    limits = ShellLimits(
        timeout=reader.read("FLYTE_SHELL_TIMEOUT", positive_seconds, ShellLimits().timeout),
    )
    longest = reader.read("FLYTE_SHELL_OUTPUT_LIMIT", byte_count, None)
    reader.finish()
    pack = Pack("Shell")
    output = pack.event("Output", payload=Output)

    @pack.command("Shell", events=[output])
    async def shell(script: Any) -> Event:  # noqa: ANN401 - text or an object; see read_invocation
        try:
            invocation = read_invocation(script)
        except InputError as error:
            return output(Output("", str(error), INPUT_EXIT_CODE), failure=True)
        found = await run_program(invocation, _for_results(limits, longest, pack))
        return output(found, failure=found.exit_code != 0)

    return pack


def _for_results(limits: ShellLimits, longest: int | None, pack: Pack) -> ShellLimits:
    """Return the limits with which a result is small enough for the server.

    `longest` is the setting for a stream.
    """
    if longest is not None:
        return msgspec.structs.replace(limits, output=longest, room=max_payload_bytes(pack))
    usual = default_length(pack)
    return msgspec.structs.replace(
        limits, output=usual, room=None if pack.body_limit() is None else usual
    )


async def run_script(script: str, limits: ShellLimits) -> Output:
    """Run a script in a shell, as `run_program` does."""
    return await run_program(Invocation(script=script), limits)


async def run_program(invocation: Invocation, limits: ShellLimits) -> Output:
    """Run a program, or a shell with a script, in a process group of its own.

    The group is killed when the time is over or the caller is cancelled. A process that the program
    leaves in the background goes on, but its output is not read any more.
    """
    noun = "program" if invocation.argv else "script"
    try:
        command = invocation.command()
    except FileNotFoundError as error:
        return Output("", str(error), NOT_FOUND_EXIT_CODE)
    timeout = min(limits.timeout, invocation.timeout or limits.timeout)
    async with (
        _stream(limits.output) as (stdout, stdout_end),
        _stream(limits.output) as (stderr, stderr_end),
    ):
        try:
            process = await _start(command, invocation, stdout_end, stderr_end)
        except (OSError, ValueError) as error:
            return Output(
                "", f"the {noun} cannot be run: {error}", _exit_code_of(error, invocation)
            )
        finally:
            os.close(stdout_end)
            os.close(stderr_end)
        exit_code = await _wait(process, timeout)
        await _drain(stdout, stderr)
        if limits.room is not None:
            await asyncio.to_thread(_fit, stdout, stderr, limits.room)
        cut = stdout.notes("stdout")
        notes = [*cut, *stderr.notes("stderr")]
        truncated = bool(notes)
        if exit_code is None:
            notes.append(f"[the {noun} was killed after {timeout:g} s]")
        return Output(
            _annotated(stdout.text(), cut),
            _annotated(stderr.text(), notes),
            TIMEOUT_EXIT_CODE if exit_code is None else exit_code,
            truncated,
        )


async def _start(
    command: Sequence[str], invocation: Invocation, stdout: int, stderr: int
) -> Process:
    with contextlib.ExitStack() as files:
        stdin: int | IO[bytes] = DEVNULL
        if invocation.stdin:
            # A file and not a pipe: a program that does not read it then blocks no writer.
            stdin = files.enter_context(tempfile.TemporaryFile())
            stdin.write(invocation.stdin.encode())
            stdin.seek(0)
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env=invocation.environment() if invocation.env else None,
            cwd=invocation.cwd,
        )


def _exit_code_of(error: Exception, invocation: Invocation) -> int:
    """Return the exit code that shells have for a program that cannot be run."""
    if not invocation.argv or (
        invocation.cwd is not None and getattr(error, "filename", None) == invocation.cwd
    ):
        return INPUT_EXIT_CODE
    if isinstance(error, PermissionError):
        return NOT_EXECUTABLE_EXIT_CODE
    return NOT_FOUND_EXIT_CODE if isinstance(error, FileNotFoundError) else INPUT_EXIT_CODE


class _Stream:
    """Reads one output stream to its end, and keeps its beginning."""

    def __init__(self, reader: asyncio.StreamReader, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._size = 0
        self.reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK):
            self._size += len(chunk)
            self._kept += chunk[: self._limit - len(self._kept)]

    def text(self, length: int | None = None) -> str:
        """Return the kept bytes, or their beginning, as text; invalid UTF-8 becomes U+FFFD."""
        kept = bytes(self._kept[:length])
        return codecs.getincrementaldecoder("utf-8")("replace").decode(
            kept, final=len(kept) == self._size
        )

    @property
    def json_length(self) -> int:
        return _json_length(self.text())

    def shorten(self, room: int) -> None:
        """Keep only as much as takes so many bytes as JSON text."""
        if self.json_length > room:
            lengths = range(min(len(self._kept), room) + 1)
            fitting = (
                bisect_right(lengths, room, key=lambda length: _json_length(self.text(length))) - 1
            )
            del self._kept[max(fitting, 0) :]

    def notes(self, name: str) -> list[str]:
        """Return a note if output was cut off."""
        if self._size <= len(self._kept):
            return []
        return [f"[{name} was cut: {len(self._kept)} of {self._size} bytes are kept]"]


def _json_length(text: str) -> int:
    return len(msgspec.json.encode(text))


def _fit(stdout: _Stream, stderr: _Stream, room: int) -> None:
    """Shorten streams to a room: the shorter one keeps up to half of it, and the other the rest."""
    lengths = stdout.json_length, stderr.json_length
    if sum(lengths) > room:
        stdout.shorten(max(room - lengths[1], room // 2))
        stderr.shorten(max(room - lengths[0], room // 2))


@contextlib.asynccontextmanager
async def _stream(limit: int) -> AsyncIterator[tuple[_Stream, int]]:
    """Open a pipe; the caller closes its writing end once the script has it.

    The pipe is ours and not the process's, so that waiting for the process never means waiting for
    the pipe.
    """
    reading_end, writing_end = os.pipe()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading_end, "rb", 0)
    )
    stream = _Stream(reader, limit)
    try:
        yield stream, writing_end
    finally:
        stream.reading.cancel()
        transport.close()


async def _wait(process: Process, limit: float) -> int | None:
    """Return the exit code, or None if the script was killed because its time was over."""
    try:
        async with asyncio.timeout(limit):
            code = await process.wait()
    except TimeoutError:
        await _kill(process)
        return None
    except asyncio.CancelledError:
        await asyncio.shield(_kill(process))
        raise
    return code if code >= 0 else SIGNAL_EXIT_CODE


async def _kill(process: Process) -> None:
    """End the whole group: first with a request, then by force."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_AFTER):
                while True:
                    os.killpg(process.pid, 0)
                    await asyncio.sleep(_GROUP_CHECK_EVERY)
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _drain(*streams: _Stream) -> None:
    """Read the rest of the pipes.

    A child in the background may keep them open, and is not waited for.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PIPES_OPEN_AFTER):
            await asyncio.wait({stream.reading for stream in streams})


def _annotated(text: str, notes: list[str]) -> str:
    if notes and text and not text.endswith("\n"):
        text += "\n"
    return text + "\n".join(notes)


if __name__ == "__main__":
    run("Shell")
