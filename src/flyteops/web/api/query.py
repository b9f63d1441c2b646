"""The query of a request, read field by field; all of its errors are reported together."""

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlencode

from flyteops.errors import InputError, Problem
from flyteops.model import ActionState
from flyteops.name import check
from flyteops.timeformat import parse_timestamp

MOST_FIELDS = 100
NO_FIELDS: Mapping[str, str] = {}
MAX_NUMBER = 2**31 - 1


class Query:
    """The fields of a query, of repeated ones the first; an empty field counts as not given.

    Use as a context manager around the reading: at its end, `InputError` is raised if anything was
    wrong.
    """

    def __init__(self, text: bytes) -> None:
        self._problems: list[Problem] = []
        self._fields: Mapping[str, str] = NO_FIELDS
        if not text:
            return
        try:
            fields = parse_qs(
                text.decode("ascii", "replace"), errors="strict", max_num_fields=MOST_FIELDS
            )
        except ValueError as error:
            raise InputError(
                f"The query is not UTF-8 text, or has more than {MOST_FIELDS} fields."
            ) from error
        self._fields = {name: values[0] for name, values in fields.items()}
        faulty = [name for name, value in self._fields.items() if "\0" in name + value]
        check(
            "The query",
            (Problem(name, "must not contain the character NUL (%00)") for name in faulty),
        )

    def following(self, start: int) -> str:
        """Return the query for the part that begins there."""
        return urlencode({**self._fields, "start": start})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._problems:
            raise InputError(
                f"The query is not valid: {self._problems[0]}.", problems=self._problems
            )

    def complain(self, name: str, message: str) -> None:
        """Note that a field is wrong."""
        self._problems.append(Problem(name, message))

    def text(self, *names: str) -> str | None:
        """Return the first of these fields that is given."""
        for name in names if self._fields else ():
            if name in self._fields:
                return self._fields[name]
        return None

    def number(self, name: str, default: int, *, least: int, most: int = MAX_NUMBER) -> int:
        """Return a whole number."""
        text = self._fields.get(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most:
            return int(text)
        self.complain(name, f"must be a whole number from {least} to {most}")
        return default

    def seconds(self, name: str) -> float:
        """Return a number of seconds, which may have a fraction, up to 68 years.

        0 if it is not given.
        """
        text = self._fields.get(name)
        if text is None:
            return 0.0
        whole, _, fraction = text.partition(".")
        is_number = text.isascii() and whole.isdigit() and (fraction.isdigit() or "." not in text)
        if is_number and len(text) <= 20 and float(text) <= MAX_NUMBER:
            return float(text)
        self.complain(
            name, f"must be a number of seconds, such as 30 or 0.5, and {MAX_NUMBER} at most"
        )
        return 0.0

    def instant(self, name: str) -> datetime | None:
        """Return a point in time, None if it is not given."""
        try:
            return parse_timestamp(self._fields.get(name), name)
        except InputError as error:
            self._problems += error.problems
            return None

    def flag(self, name: str) -> bool:
        """Return whether a field is true."""
        text = self._fields.get(name, "false")
        if text.lower() not in ("true", "false", "1", "0"):
            self.complain(name, "must be true or false")
        return text.lower() in ("true", "1")

    def states(self, name: str) -> frozenset[ActionState] | None:
        """Return states of actions, separated by commas; None if there are none."""
        text = self._fields.get(name)
        if text is None:
            return None
        known = {state.value: state for state in ActionState}
        words = [word.strip().upper() for word in text.split(",")]
        if not set(words) <= set(known):
            self.complain(name, f"must be of {', '.join(known)}")
        return frozenset(known[word] for word in words if word in known)

    def labels(self, name: str) -> dict[str, str] | None:
        """Return labels, None if there are none."""
        text = self._fields.get(name)
        if text is None:
            return None
        pairs = [pair.partition(":") for pair in text.split(",")]
        if not all(separator for _, separator, _ in pairs):
            self.complain(name, "must be pairs such as env:staging,network:lab")
        return {key.strip(): value.strip() for key, _, value in pairs}
