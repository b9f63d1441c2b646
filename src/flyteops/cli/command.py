"""Building blocks of commands: their class, shared options, and the output of Flyte's errors."""

import asyncio
import inspect
import re
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
import msgspec

from flyteops.cli.output import clean
from flyteops.cli.root import missing_module, remember_url
from flyteops.errors import FlyteError, SettingsError, UnavailableError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

USAGE, UNREACHABLE = 2, 3

CANCEL_AGAIN = 1.0
"""Seconds after which an interrupted command that has not ended is cancelled again."""


class Failure(click.ClickException):
    """A failed command: one line, and a line for each problem."""

    def __init__(self, error: FlyteError) -> None:
        super().__init__(_message(error))
        self.problems = error.problems
        self.hints = _hints(error)
        # Click reads the instance's own value.
        self.exit_code = _exit_code(error)  # type: ignore[misc]
        problems = [msgspec.to_builtins(problem) for problem in error.problems]
        self.details = {
            "code": error.code,
            "message": self.message,
            **({"problems": problems} if problems else {}),
        }

    def format_message(self) -> str:
        lines = [
            str(problem)
            for problem in self.problems
            if problem.message.rstrip(".") not in self.message
        ]
        return "\n  ".join(clean(line) for line in [self.message, *lines, *self.hints])


def _message(error: FlyteError) -> str:
    text = (error.message if error.problems else str(error)).strip()
    text = text.partition("\n")[0].rstrip(":.").strip()
    if _is_unreachable(error):
        return f"the server cannot be reached: {text}"
    # Errors are sentences; after `flyte:` they go on in lower case, except for names.
    return text[:1].lower() + text[1:] if re.match(r"[A-Z][a-z]*[ ,]", text) else text


def _is_unreachable(error: FlyteError) -> bool:
    return (
        isinstance(error, UnavailableError)
        and error.__cause__ is not None
        and " http" in error.message
    )


def _is_tls_fault(error: FlyteError) -> bool:
    """Return whether two peers that reach each other fail to agree on TLS."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(isinstance(each, ssl.SSLError) for each in causes)


def _hints(error: FlyteError) -> tuple[str, ...]:
    if _is_unreachable(error):
        if "TLS" in error.message:
            return ()
        if _is_tls_fault(error):
            return (
                "It answers, but TLS failed. FLYTE_CA_CERT_FILE names a file with certificates to"
                " trust besides those of the system; the address of a server without TLS begins"
                " with http://.",
            )
        return (
            "Is it running? `flyte serve` starts one, `flyte dev` one to try things out; --url or"
            " FLYTE_API selects another.",
        )
    return tuple(getattr(error, "drawing", ()))


def _exit_code(error: FlyteError) -> int:
    if isinstance(error, SettingsError):
        return USAGE
    return UNREACHABLE if isinstance(error, UnavailableError) else 1


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine; when interrupted, end it, and discard its result or error.

    `asyncio.run` cancels only once, which anyio loses at the moment when a connection is made.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN)
        if not task.cancelled():
            task.exception()  # marks it as retrieved
        raise
    return task.result()


class FlyteCommand(click.Command):
    """A command whose function may be a coroutine function, and may raise the errors of Flyte."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            return asyncio.run(interruptible(result)) if inspect.iscoroutine(result) else result
        except FlyteError as error:
            raise Failure(error) from error
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "flyteops":
                raise
            raise missing_module(ctx.command_path, error) from error


class WholeNumber(click.IntRange):
    """A whole number within bounds, called so in error messages."""

    name = "whole number"


class FlyteGroup(click.Group):
    """A group of such commands."""

    command_class = FlyteCommand


def url_option(function: F) -> F:
    """Add `--url`, which may stand before the command as well."""
    return click.option(
        "--url",
        metavar="URL",
        expose_value=False,
        callback=remember_url,
        help="The server's address; default: FLYTE_API.",
    )(function)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, including errors.")(
        function
    )
