"""The errors that Flyte raises on purpose, named for the caller's way to react.

::

    FlyteError
    ├── InputError              fix the input and send it again; `problems` lists every fault
    │   ├── TooLargeError       send less
    │   └── SettingsError       fix the environment or the command line
    ├── UnauthorizedError       show a token that allows this
    ├── ForbiddenError          not allowed to this caller, with any input
    ├── NotFoundError           name something that exists
    ├── ConflictError           the resource is in another state than assumed; read it again
    │   ├── StaleError          another client was faster; read again and repeat
    │   └── LateError           the action was lost before; the result is kept, but not applied
    ├── UnavailableError        nothing was done, except for OutcomeUnknownError; try again later
    │   ├── BusyError           try again in a moment, there is too much to do
    │   └── OutcomeUnknownError     repeat it with the same key: it may have been done
    ├── StoreError              the store cannot be used as it is; an operator must look at it
    │   └── UnreadableError     one row in it cannot be read; all others can
    └── TemplateError           fix the template, or the values that it is given
        ├── TemplateSyntaxError     at compile time
        └── TemplateRenderError     at render time
            ├── TemplateAbort       an error that not even a macro catches
            └── TemplateLimitError  a bound on size, time or depth was reached
                └── TemplateTimeError   the bound on time, which depends on the machine

This module is independent of HTTP: `web` maps classes to status codes. The first line of a class's
docstring is its default message, `code` is stable and may be relied on by programs.
"""

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault in an input: its place and its description.

    `path` is a dotted path such as ``steps[0].command.name`` ("" for the whole input), `line` and
    `column` count from 1.
    """

    path: str
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.path
        if self.line is not None:
            place = f"{place} (line {self.line}, column {self.column or 1})".strip()
        return f"{place}: {self.message}" if place else self.message


class FlyteError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, *, problems: Sequence[Problem] = ()) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.problems = tuple(problems)
        super().__init__(self.message)


class InputError(FlyteError):
    """The input is not valid."""

    code = "invalid-input"


class TooLargeError(InputError):
    """The input is too large."""

    code = "too-large"


class SettingsError(InputError):
    """The settings are not valid."""

    code = "invalid-settings"


class UnauthorizedError(FlyteError):
    """A token is required.

    `error` is the fault of the token that was sent, as named by RFC 6750; None if there was no
    token.
    """

    code = "unauthorized"

    def __init__(
        self,
        message: str | None = None,
        *,
        error: str | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message, problems=problems)
        self.error = error


class ForbiddenError(FlyteError):
    """This is not allowed."""

    code = "forbidden"


class NotFoundError(FlyteError):
    """Not found."""

    code = "not-found"


class ConflictError(FlyteError):
    """The current state does not allow this."""

    code = "conflict"


class StaleError(ConflictError):
    """The state changed in the meantime."""

    code = "stale"


class LateError(ConflictError):
    """The action had been lost before this result came; it is kept, but nothing follows from it."""

    code = "late"


class UnavailableError(FlyteError):
    """The store cannot be reached at the moment; nothing was changed."""

    code = "unavailable"


class BusyError(UnavailableError):
    """The server is too busy; nothing was changed."""

    code = "busy"


class OutcomeUnknownError(UnavailableError):
    """It is unknown whether the change was made; repeat it with the same Idempotency-Key.

    The change was sent to the store, and the answer was lost.
    """

    code = "outcome-unknown"


class StoreError(FlyteError):
    """The store cannot be used as it is."""

    code = "store"


class UnreadableError(StoreError):
    """Something in the store cannot be read."""

    code = "unreadable"


class TemplateError(FlyteError):
    """The template is not valid.

    `line` and `column` count from 1 in the template's own text; None when no place is known. `path`
    is the place of the template in a JSON value, such as ``message.parts[0]``, if it is part of
    one.
    """

    code = "template"
    path: str | None = None

    def __init__(
        self, message: str | None = None, *, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return (
            self.message
            if self.line is None
            else f"line {self.line}, column {self.column}: {self.message}"
        )


class TemplateSyntaxError(TemplateError):
    """The template cannot be understood."""

    code = "template-syntax"


class TemplateRenderError(TemplateError):
    """The template cannot be rendered with these values."""

    code = "template-render"


class TemplateAbort(TemplateRenderError):  # noqa: N818 - it names what happens to the rendering
    """The rendering was aborted."""

    code = "template-abort"


class TemplateLimitError(TemplateRenderError):
    """The template reached a limit."""

    code = "template-limit"


class TemplateTimeError(TemplateLimitError):
    """The template reached the limit on time."""
