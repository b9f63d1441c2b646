"""The input of the Shell pack: a script, or an object with a script or a program's arguments."""

import os
import re
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from flyteops.errors import InputError, Problem
from flyteops.sdk.environment import positive_seconds

KEYS = ("script", "argv", "env", "stdin", "cwd", "timeout")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_KINDS = {
    dict: "an object",
    list: "an array",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class Invocation(msgspec.Struct, frozen=True):
    """A program to run: the text of a script, or the name and the arguments of a program.

    `env` is added to the environment of the pack; `stdin` is empty and `cwd` the folder of the pack
    unless they are given.
    """

    script: str = ""
    argv: tuple[str, ...] = ()
    env: dict[str, str] = {}
    stdin: str = ""
    cwd: str | None = None
    timeout: float | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment of the program."""
        return {**os.environ, **self.env}

    def command(self) -> tuple[str, ...]:
        """Return the program to execute with its arguments.

        Raise `FileNotFoundError` if there is none of that name.
        """
        if self.argv:
            return self._found(self.argv[0]), *self.argv[1:]
        program = shutil.which("bash") or shutil.which("sh")
        if program is None:
            message = "neither bash nor sh was found"
            raise FileNotFoundError(message)
        return program, "-c", self.script

    def _found(self, name: str) -> str:
        if "/" in name:
            return name  # the system finds it, from the folder in which it runs
        program = shutil.which(name, path=self.environment().get("PATH", os.defpath))
        if program is None:
            message = f"the program {name!r} is not on the PATH of the pack"
            raise FileNotFoundError(message)
        return os.path.abspath(program)  # noqa: PTH100 - the folder changes before it runs


def read_invocation(value: object) -> Invocation:
    """Return the invocation in an input; raise `InputError` with all of its faults."""
    if value is None or value == "":
        message = "No script supplied to handler"
        raise InputError(message)
    if isinstance(value, str):
        return Invocation(script=value)
    if not isinstance(value, Mapping) or not any(key in KEYS or _nearest(key) for key in value):
        message = f"the input must be a JSON string, not {_kind(value)}"
        raise InputError(message)
    reader = _Reader(value)
    invocation = Invocation(
        script=reader.text("script"),
        argv=reader.arguments(),
        env=reader.variables(),
        stdin=reader.text("stdin"),
        cwd=reader.text("cwd") or None,
        timeout=reader.timeout(),
    )
    reader.finish()
    return invocation


class _Reader:
    """Reads the keys of an object one by one, and collects the faults until the end.

    Null counts as absent.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = {key: item for key, item in value.items() if item is not None}
        self._problems: list[Problem] = []
        for key in value:
            if key not in KEYS:
                near = _nearest(key)
                hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(KEYS)}"
                self._complain(key, f"is not known; {hint}")
        self._check_subject()

    def _check_subject(self) -> None:
        given = [key for key in ("script", "argv") if self._value.get(key) not in (None, "", [])]
        if len(given) > 1:
            self._complain("argv", "does not go with script; give one of them")
        elif not given:
            self._complain(
                "", "an input that is an object needs 'script' (text) or 'argv' (a list of texts)"
            )

    def _complain(self, path: str, message: str) -> None:
        self._problems.append(Problem(path, message))

    def _checked(self, path: str, text: object) -> str:
        if not isinstance(text, str):
            self._complain(path, f"must be text, not {_kind(text)}; put it in quotes")
            return ""
        return text

    def _passed(self, path: str, text: object) -> str:
        """Check a text for the system, where a NUL would end it."""
        checked = self._checked(path, text)
        if "\0" in checked:
            self._complain(path, "must not contain a NUL character")
        return checked

    def text(self, key: str) -> str:
        check = self._checked if key == "stdin" else self._passed
        return check(key, self._value.get(key, ""))

    def arguments(self) -> tuple[str, ...]:
        argv = self._value.get("argv", [])
        if not isinstance(argv, list):
            self._complain("argv", f"must be a list of texts, not {_kind(argv)}")
            return ()
        found = tuple(self._passed(f"argv[{index}]", text) for index, text in enumerate(argv))
        if argv and argv[0] == "":
            self._complain("argv[0]", "must name a program")
        return found

    def variables(self) -> dict[str, str]:
        env = self._value.get("env", {})
        if not isinstance(env, Mapping):
            self._complain("env", f"must be an object, not {_kind(env)}")
            return {}
        for name in env:
            if not _NAME.fullmatch(name):
                self._complain(
                    "env",
                    f"{name!r} is not the name of a variable: letters, digits and underscores",
                )
        return {name: self._passed(f"env.{name}", text) for name, text in env.items()}

    def timeout(self) -> float | None:
        value = self._value.get("timeout")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._complain("timeout", f"must be a length of time such as 30s, not {_kind(value)}")
            return None
        try:
            return positive_seconds(str(value))
        except ValueError as error:
            self._complain("timeout", str(error))
            return None

    def finish(self) -> None:
        if self._problems:
            raise InputError(
                "; ".join(str(problem) for problem in self._problems), problems=self._problems
            )


def _nearest(key: str) -> str:
    return next(iter(get_close_matches(key.casefold(), KEYS, n=1)), "")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "text")
