"""Auth policy files: YAML in, a policy or all of its errors out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from flyteops.convert import kind_of
from flyteops.document import Document, parse_yaml
from flyteops.errors import InputError, Problem
from flyteops.model import JsonValue
from flyteops.service.token import READABLE
from flyteops.web.auth.policy import METHODS, Policy, PolicyEntry, levels_of

KEYS = ("path", "methods", "claims", "items")

NAME = re.compile(r":[A-Za-z_][A-Za-z0-9_-]*")

Path = tuple[str | int, ...]


def read_policy(data: bytes) -> Policy:
    """Return the policy in a file; raise `InputError` with every fault, each with its line."""
    document = parse_yaml(data)
    policy, problems = Policy([]), []
    if not isinstance(document.value, list) or not document.value:
        problems.append(
            document.problem((), "must be a list of entries, each with path, methods and claims")
        )
    else:
        for index, value in enumerate(document.value):
            reader = _EntryReader(document, index)
            entry = reader.read(value)
            problems += reader.problems
            if not reader.problems and (earlier := policy.add(entry)) is not None:
                message = (
                    f"overlaps with the entry in line {earlier.line}; merge them, or name the"
                    " methods"
                )
                problems.append(document.problem((index, "path"), message))
    if problems:
        raise InputError("The auth policy is not valid.", problems=problems)
    return policy


class _EntryReader:
    def __init__(self, document: Document, index: int) -> None:
        self._document = document
        self._index = index
        self.problems: list[Problem] = []

    def _complain(self, message: str, *path: str | int) -> None:
        self.problems.append(self._document.problem((self._index, *path), message))

    def read(self, value: JsonValue) -> PolicyEntry:
        """Return the entry, which may be used only if there are no `problems`."""
        if not isinstance(value, dict):
            self._complain(f"must be an entry with path, methods and claims, not {kind_of(value)}")
            return PolicyEntry("")
        # A misspelled key would open the path that it was meant to close.
        for key in value:
            if key not in KEYS:
                near = get_close_matches(key.lower(), KEYS, n=1)
                self._complain(
                    f"{key!r} is not known" + (f"; did you mean {near[0]!r}?" if near else ""), key
                )
        place = self._document.place((self._index,))
        path = self._path(value.get("path"))
        methods, claims = (
            self._methods(value.get("methods")),
            self._claims(value.get("claims"), path),
        )
        return PolicyEntry(
            path, methods, claims, place and place.line, self._items(value.get("items"))
        )

    def _items(self, value: JsonValue) -> Sequence[str]:
        if value is None:
            return READABLE
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._complain(
                "must be a list of keys of datastore items such as [chatops, teams], or ['*'] for"
                " all",
                "items",
            )
            return ()
        return [str(each) for each in value]

    def _path(self, value: JsonValue) -> str:
        if not isinstance(value, str) or not value.startswith("/"):
            self._complain("must be the path of requests, such as /v1/packs/:pack", "path")
            return ""
        for fault in _path_faults(value):
            self._complain(fault, "path")
        return value

    def _methods(self, value: JsonValue) -> Sequence[str]:
        if value is None:
            return ()
        if not isinstance(value, list) or not value:
            self._complain(
                "must be a list of methods such as [GET, POST]; the default is all methods",
                "methods",
            )
            return ()
        for index, method in enumerate(value):
            if method not in METHODS:
                near = get_close_matches(str(method).upper(), METHODS, n=1)
                self._complain(
                    f"{method!r} is not a method of HTTP"
                    + (f"; did you mean {near[0]}?" if near else ""),
                    "methods",
                    index,
                )
        return [str(method) for method in value]

    def _claims(self, value: JsonValue, path: str) -> Mapping[str, Sequence[str]]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._complain(
                f"must be claims with their accepted values, not {kind_of(value)}", "claims"
            )
            return {}
        names = PolicyEntry(path).names
        claims = {}
        for name, values in value.items():
            texts = list(_texts(values)) if isinstance(values, list) else []
            claims[name] = texts
            if not texts or len(texts) < len(values or ()):
                self._complain(
                    "must be a list of texts, numbers or booleans, one at least", "claims", name
                )
            for text in (name, *texts):
                if text.startswith(":") and text[1:] not in names:
                    self._complain(
                        f"{text!r} is to be taken from the path, which has no {text!r}",
                        "claims",
                        name,
                    )
        return claims


def _texts(values: Iterable[JsonValue]) -> Iterator[str]:
    for value in values:
        if isinstance(value, bool):
            yield str(value).lower()
        elif isinstance(value, str | int | float):
            yield str(value)


def _path_faults(path: str) -> Iterator[str]:
    levels = levels_of(path)
    for level in levels:
        if not level and len(levels) > 1:
            yield "has a level without a name between two slashes"
        elif "*" in level and level != "*":
            yield f"has '*' inside of {level!r}; it stands for whole levels"
        elif level.startswith(":") and not NAME.fullmatch(level):
            yield (
                f"has {level!r}; a name has letters, digits, '_' and '-', and begins with a letter"
            )
    names = PolicyEntry(path).names
    if len(set(names)) < len(names):
        yield "has the same name twice"
