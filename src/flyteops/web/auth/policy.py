"""Auth policies: the entry that decides about a request, and the claims that a token needs.

Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from flyteops.service.token import READABLE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

ANY_METHOD = "*"

OLDER_PATHS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("v1", "executions"): ("v1", "audit", "flows")
}
"""Older paths of resources that have moved to newer ones."""

AS_PACK = (
    ("/v1/packs/:pack", "GET"),
    ("/v1/packs/:pack/events", "POST"),
    ("/v1/packs/:pack/actions/*", "POST"),
    ("/v1/packs/:pack/presence", "POST"),
    ("/v1/packs/:pack/datastore/:key", "GET"),
)
"""The requests that a pack makes once it has registered."""

Claims = Mapping[str, Any]
"""The claims of a token."""

MAX_LEVELS = 32
"""Maximum number of levels that a path may have; no path of ours has as many, so longer ones match
no entry."""


class PolicyEntry(msgspec.Struct, frozen=True):
    """The requirement of requests for a path: none, or a token with one of the claims.

    No methods means all; `line` is the line in the file. In the path, ``*`` stands for one level or
    more and ``:name`` for one level. A claim's name or value that begins with a colon is taken from
    the path. `items` are the datastore items that packs may read by such a request if they declare
    them.
    """

    path: str
    methods: Sequence[str] = ()
    claims: Mapping[str, Sequence[str]] = {}
    line: int | None = None
    items: Sequence[str] = READABLE

    @property
    def names(self) -> list[str]:
        """The parameters in the path, in order."""
        return [level[1:] for level in self.path.split("/") if level.startswith(":")]


class PolicyMatch(NamedTuple):
    """The entry that decides, and the values of its path parameters."""

    entry: PolicyEntry
    params: Mapping[str, str]

    @property
    def is_open(self) -> bool:
        return not self.entry.claims

    def wanted(self) -> list[tuple[str, list[str]]]:
        """Return the claims of which a token needs one, with the values from the path filled in."""
        return [
            (self._filled(name), [self._filled(value) for value in values])
            for name, values in self.entry.claims.items()
        ]

    def _filled(self, text: str) -> str:
        return self.params[text[1:]] if text.startswith(":") else text

    def is_satisfied_by(self, claims: Claims) -> bool:
        """Return whether a token with these claims has one of the required claims."""
        return any(
            not texts_of(claims.get(name)).isdisjoint(values) for name, values in self.wanted()
        )


def texts_of(claim: object) -> frozenset[str]:
    """Return the values of a token's claim as a policy writes them.

    A type of value that no policy has gives none.
    """
    match claim:
        case bool():
            return frozenset(["true" if claim else "false"])
        case str() | int():
            return frozenset([str(claim)])
        case float():
            return frozenset([str(int(claim)) if claim.is_integer() else str(claim)])
        case list() if all(isinstance(each, str) for each in claim):
            return frozenset(claim)
    return frozenset()


class _Place:
    """A level of paths.

    `under` are the levels below it by name; a place that `goes_on` stands for further levels as
    well.
    """

    __slots__ = ("entries", "goes_on", "under", "under_any", "under_rest")

    def __init__(self, *, goes_on: bool = False) -> None:
        self.entries: dict[str, PolicyEntry] = {}
        self.goes_on = goes_on
        self.under: dict[str, _Place] = {}
        self.under_any: _Place | None = None
        self.under_rest: _Place | None = None

    def below(self, level: str) -> "_Place":
        """Return the place for a level of an entry's path, created if need be."""
        if level == "*":
            self.under_rest = self.under_rest or _Place(goes_on=True)
            return self.under_rest
        if level.startswith(":"):
            self.under_any = self.under_any or _Place()
            return self.under_any
        return self.under.setdefault(unquote(level), _Place())

    def entry_for(self, method: str) -> PolicyEntry | None:
        # HEAD reveals nothing that GET does not.
        names = (method, "GET", ANY_METHOD) if method == "HEAD" else (method, ANY_METHOD)
        return next((self.entries[name] for name in names if name in self.entries), None)


class Policy:
    """Entries, of which the closest to a request decides.

    Level by level, a name goes before ``:name``, and that before ``*``.
    """

    def __init__(self, entries: Iterable[PolicyEntry]) -> None:
        self._root = _Place()
        for entry in entries:
            self.add(entry)

    def add(self, entry: PolicyEntry) -> PolicyEntry | None:
        """Add an entry.

        If another covers some of the same requests already, return that one, and add nothing.
        """
        place = self._root
        for level in levels_of(entry.path):
            place = place.below(level)
        methods = entry.methods or (ANY_METHOD,)
        for method in methods:
            if method in place.entries:
                return place.entries[method]
        place.entries.update(dict.fromkeys(methods, entry))
        return None

    def find(self, method: str, path: str) -> PolicyMatch | None:
        """Return the entry that decides about a request with the values of its path, or None.

        The path is percent-encoded as sent: its levels are decoded here one by one, so that a slash
        in a name is part of that name, as it is for the router. A read at a newer path is decided
        by the entries for the older one, unless an entry names the newer path: an older policy must
        not open it.
        """
        try:
            levels: Sequence[str] = [
                unquote(level, errors="strict") if "%" in level else level
                for level in levels_of(path)
            ]
        except UnicodeDecodeError:
            return None
        if method in {"GET", "HEAD"}:
            levels = self._known(levels)
        return None if len(levels) > MAX_LEVELS else _find(self._root, method, levels, 0, (), set())

    def _known(self, levels: Sequence[str]) -> Sequence[str]:
        """Return the older path for a newer one that no entry names."""
        for newer, older in OLDER_PATHS.items():
            if tuple(levels[: len(newer)]) == newer and not self._names(newer):
                return [*older, *levels[len(newer) :]]
        return levels

    def _names(self, levels: Iterable[str]) -> bool:
        place: _Place | None = self._root
        for level in levels:
            place = None if place is None else place.under.get(level)
        return place is not None


def uncovered(policy: Policy, routes: Iterable[tuple[str, str]]) -> list[str]:
    """Return the requests that no entry of the policy covers.

    `routes` are the methods and paths that a server knows.
    """
    return [f"{method} {path}" for method, path in routes if policy.find(method, path) is None]


def levels_of(path: str) -> list[str]:
    """Return the levels of a path; the root has one level with an empty name."""
    return path.strip("/").split("/")


# A search carries what it knows, and ends with the first way that leads there.
def _find(  # noqa: PLR0911, PLR0913, PLR0917
    place: _Place,
    method: str,
    levels: Sequence[str],
    at: int,
    taken: tuple[str, ...],
    failed: set[tuple[int, int]],
) -> PolicyMatch | None:
    """Search from a place for the rest of the levels; a search in `failed` is not repeated."""
    if at == len(levels):
        entry = place.entry_for(method)
        return (
            None
            if entry is None
            else PolicyMatch(entry, dict(zip(entry.names, taken, strict=True)))
        )
    if (id(place), at) in failed:
        return None
    level, at = levels[at], at + 1
    if (named := place.under.get(level)) is not None and (
        found := _find(named, method, levels, at, taken, failed)
    ):
        return found
    if (
        place.under_any is not None
        and level
        and (found := _find(place.under_any, method, levels, at, (*taken, level), failed))
    ):
        return found
    if place.under_rest is not None and (
        found := _find(place.under_rest, method, levels, at, taken, failed)
    ):
        return found
    if place.goes_on and (found := _find(place, method, levels, at, taken, failed)):
        return found
    failed.add((id(place), at - 1))
    return None
