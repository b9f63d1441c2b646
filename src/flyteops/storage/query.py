"""The arguments and results of queries and of retention: filters, pages, rows, limits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, Self, TypeVar

import msgspec

from flyteops.errors import UnreadableError
from flyteops.model import ActionState

T = TypeVar("T")
R = TypeVar("R")

PAGE_BYTES = 16 * 1024 * 1024
"""The maximum size of the contents of one page, unless it holds a single item."""


class ExecutionFilter(msgspec.Struct, frozen=True):
    """Conditions that one action of an execution must satisfy; None matches all.

    Labels must be contained.
    """

    flow_name: str | None = None
    step_id: str | None = None
    action_name: str | None = None
    action_pack_name: str | None = None
    action_pack_labels: Mapping[str, str] | None = None


class EventFilter(msgspec.Struct, frozen=True):
    """Events to list; None matches all.

    `flow_name` selects those with stored decisions on its steps, and those with one of the `bases`.
    """

    flow_name: str | None = None
    event_name: str | None = None
    pack_name: str | None = None
    bases: tuple[int, ...] = ()


class ActionFilter(msgspec.Struct, frozen=True):
    """Actions to list; None matches all.

    `overdue_since` selects those that wait for a person, and those that are PENDING since before
    that time or longer than their limit at `now`.
    """

    states: frozenset[ActionState] | None = None
    flow_name: str | None = None
    pack_name: str | None = None
    overdue_since: datetime | None = None
    now: datetime | None = None


class ActionStatus(msgspec.Struct, frozen=True):
    """The current status of an action; `since` is the time of its last change of state."""

    action_id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str]
    correlation_id: str
    flow_name: str
    step_id: str
    state: ActionState
    since: datetime
    created_at: datetime
    attempt: int
    due_at: datetime | None = None


class Page(tuple[T, ...]):
    """Results, in order. `is_cut` when they exceed one answer: continue after the last item."""

    is_cut: bool

    def __new__(cls, items: Iterable[T], *, is_cut: bool = False) -> Self:
        """Return the page."""
        page = super().__new__(cls, items)
        page.is_cut = is_cut
        return page


class UnreadableEntry(NamedTuple):
    """An unreadable entry of the store: its name, and the reason."""

    name: str
    error: Exception


class Rows(tuple[T, ...]):
    """All readable results, in order, and the unreadable ones."""

    unreadable: tuple[UnreadableEntry, ...]

    def __new__(cls, items: Iterable[T], unreadable: Iterable[UnreadableEntry] = ()) -> Self:
        """Return the rows."""
        rows = super().__new__(cls, items)
        rows.unreadable = tuple(unreadable)
        return rows

    @classmethod
    def read(cls, rows: Iterable[R], name_of: Callable[[R], str], read: Callable[[R], T]) -> Self:
        """Read each row; an error concerns its own row only."""
        items: list[T] = []
        unreadable: list[UnreadableEntry] = []
        for row in rows:
            try:
                items.append(read(row))
            # Rows may hold anything, as others can write to the database.
            except Exception as error:  # noqa: BLE001
                unreadable.append(UnreadableEntry(name_of(row), error))
        return cls(items, unreadable)


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raise `UnreadableError` when stored data that is read inside the block cannot be decoded."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        RecursionError,
        msgspec.MsgspecError,
    ) as error:
        raise UnreadableError(
            f"{what} in the store cannot be read: {type(error).__name__}: {error}."
        ) from error


class Retention(msgspec.Struct, frozen=True):
    """Limits of retention.

    To be removed are executions without activity since `before`, those finished since
    `finished_before` with unreferenced events of that age, and keys of events from before
    `keys_before`; and, when the store exceeds `max_bytes`, the oldest finished data. No space
    is freed for `spared_bytes`, the excess of other data.
    """

    before: datetime
    finished_before: datetime
    keys_before: datetime
    max_bytes: int | None = None
    spared_bytes: int = 0


class Purged(msgspec.Struct, frozen=True):
    """The numbers of records that `purge` removed; `more` when it stopped at its bound.

    `over_bytes` is the excess of the store's size when nothing removable is left.
    """

    executions: int
    events: int
    more: bool
    over_bytes: int = 0


class VersionBound(msgspec.Struct, frozen=True):
    """The flow versions that `purge_versions` removes.

    Unused ones are those that are not current, that no execution began with, and that are not among
    the uuids `kept` for decisions. Of these, the oldest are removed as long as all take more than
    `max_bytes`, but only those that were found unused before `unused_before`. `at` is the present
    time.
    """

    at: datetime
    unused_before: datetime
    max_bytes: int
    kept: frozenset[str] = frozenset()


class PurgedVersions(msgspec.Struct, frozen=True):
    """The number of flow versions that `purge_versions` removed, and the bytes of unused ones."""

    removed: int
    unused_bytes: int
