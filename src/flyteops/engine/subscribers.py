"""The flows that listen to one kind of event, and which of their steps an event can make run. Pure.

With hundreds of flows that listen to the same chat, nearly all criteria are false for a message.
`Subscribers.candidates` finds the steps whose necessary conditions hold (`template.condition`)
without evaluating the others: conditions of equality are looked up in one dict per path, and all
regular expressions for one path are searched for at once by an RE2 set. The subset of steps is a
bit set, an `int` in which bit n stands for step n.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

from flyteops.errors import TemplateError
from flyteops.model import Event, JsonValue
from flyteops.template.condition import Condition, EventPath, constant_of
from flyteops.template.regexp import PatternSet, SetPattern
from flyteops.template.value import TEXTS, clean, element, text

if TYPE_CHECKING:
    from flyteops.engine.compiled import CompiledFlow, CompiledStep

SEGMENT_COST = 512
"""The maximum cost of a segment, the unit that is built anew when a flow is saved.

Each step counts once, and once more for each `INSTRUCTIONS` of its regular expressions.
"""

INSTRUCTIONS = 128
"""The instructions of regular expressions that take as long to build as the rest of a step."""

FEW = 3
"""The number of steps up to which trying all of them costs less than looking for candidates."""

SEARCH_SECONDS = 1.0
"""The time after which steps are tried instead of searching for further candidates."""

Entry = tuple["CompiledFlow", tuple["CompiledStep", ...]]
"""A flow, and its steps with which the event can begin an execution, in their order."""

_ANY, _NEVER = object(), object()
"""Values that satisfy all conditions, because their text is not known, and none of them."""


class EventValues:
    """The values of an event at the paths of conditions, each looked up once."""

    def __init__(self, event: Event, payload: Callable[[], JsonValue]) -> None:
        self._event = event
        self._payload = payload
        self._found: dict[EventPath, object] = {}
        self._texts: dict[EventPath, bytes | None] = {}

    def find(self, path: EventPath) -> object:
        """Return the value at a path.

        `_NEVER` if a template fails there, `_ANY` if its text is not known.
        """
        if path not in self._found:
            self._found[path] = self._read(path)
        return self._found[path]

    def text_at(self, path: EventPath) -> bytes | None:
        """Return the text at a path as the filter `match` searches it; None if it is not known.

        Only for a path with a value.
        """
        if path not in self._texts:
            self._texts[path] = _text_bytes(self.find(path))
        return self._texts[path]

    def _read(self, path: EventPath) -> object:
        value = self._walk(path.names)
        if value is _NEVER or not path.as_text:
            return value
        try:
            printed = text(element(value))
        except TemplateError:
            return _NEVER
        is_known = not isinstance(value, dict | list) and clean(printed) == printed
        return printed if is_known else _ANY

    def _walk(self, names: Sequence[str]) -> object:
        root, *rest = names
        if root == "Name":
            return self._event.name
        pack = self._event.pack
        value: object = (
            self._payload()
            if root == "Payload"
            else {"Id": pack.id, "Name": pack.name, "Labels": pack.labels}
        )
        for name in rest:
            if value is None:
                return None
            if not isinstance(value, dict):
                return _NEVER
            value = value.get(name)
        return value


def _text_bytes(value: object) -> bytes | None:
    if type(value) in TEXTS:
        return clean(str(value)).encode()
    if isinstance(value, dict | list):
        return None
    try:
        return text(element(value)).encode()
    except TemplateError:
        return None


class _Equalities(NamedTuple):
    """The conditions of equality on one path: the steps with one, and those for each constant."""

    constrained: int
    satisfied: dict[object, int]


class _Searches(NamedTuple):
    """The regular expressions for one path: the steps with one, and those of each pattern."""

    constrained: int
    patterns: PatternSet
    satisfied: Sequence[int]


class Segment:
    """A part of the steps that listen to an event, and the tables of their conditions.

    The tables are built at the first use. Immutable otherwise.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self.names = frozenset(flow.version.flow.name for flow, _ in self.entries)
        self._steps = [(flow, step) for flow, steps in self.entries for step in steps]
        self.cost = sum(_cost(entry) for entry in self.entries)
        self.item_keys = frozenset(key for _, step in self._steps for key in step.item_keys or ())
        self._tables: tuple[dict[EventPath, _Equalities], dict[EventPath, _Searches]] | None = None

    def __len__(self) -> int:
        return len(self._steps)

    def build(self) -> tuple[dict[EventPath, _Equalities], dict[EventPath, _Searches]]:
        """Return the tables of the conditions."""
        if self._tables is None:
            conditions = [
                (1 << place, each)
                for place, (_, step) in enumerate(self._steps)
                for each in step.conditions
            ]
            self._tables = _equalities(conditions), _searches(conditions)
        return self._tables

    def candidates(
        self, values: EventValues, *, searches_texts: bool
    ) -> Iterable[tuple["CompiledFlow", "CompiledStep"]]:
        """Yield the steps whose conditions hold, or may hold unless it `searches_texts`."""
        equalities, searches = self.build()
        left = (1 << len(self._steps)) - 1
        for path, table in equalities.items():
            value = values.find(path)
            if value is not _ANY:
                left &= ~table.constrained | table.satisfied.get(constant_of(value), 0)
        for path, search in searches.items() if searches_texts else ():
            if left & search.constrained:
                left &= ~search.constrained | _satisfied(search, path, values)
        while left:
            place = (left & -left).bit_length() - 1
            yield self._steps[place]
            left &= left - 1


def _satisfied(search: _Searches, path: EventPath, values: EventValues) -> int:
    """Return the steps of which a regular expression matches, or may match."""
    value = values.find(path)
    if value is _NEVER:
        return 0
    data = None if value is _ANY else values.text_at(path)
    found = None if data is None else search.patterns.find(data)
    if found is None:
        return search.constrained
    steps = 0
    for index in found:
        steps |= search.satisfied[index]
    return steps


def _equalities(conditions: Iterable[tuple[int, Condition]]) -> dict[EventPath, _Equalities]:
    tables: dict[EventPath, _Equalities] = {}
    for bit, condition in conditions:
        if condition.equals is None:
            continue
        constrained, satisfied = tables.get(condition.path, (0, {}))
        for constant in condition.equals:
            satisfied[constant] = satisfied.get(constant, 0) | bit
        tables[condition.path] = _Equalities(constrained | bit, satisfied)
    return tables


def _searches(conditions: Iterable[tuple[int, Condition]]) -> dict[EventPath, _Searches]:
    found: dict[EventPath, dict[SetPattern, int]] = {}
    constrained: dict[EventPath, int] = {}
    for bit, condition in conditions:
        if condition.equals is not None:
            continue
        patterns = found.setdefault(condition.path, {})
        constrained[condition.path] = constrained.get(condition.path, 0) | bit
        for pattern in condition.patterns:
            patterns[pattern] = patterns.get(pattern, 0) | bit
    tables = {}
    for path, patterns in found.items():
        compiled = PatternSet(list(patterns))
        for index in compiled.rejected:  # their steps are to be tried
            constrained[path] &= ~list(patterns.values())[index]
        tables[path] = _Searches(constrained[path], compiled, tuple(patterns.values()))
    return tables


class Subscribers:
    """The flows that listen to one kind of event, by name, with their trigger steps. Immutable.

    `item_keys` are the datastore items that the templates name which decide whether steps run.
    """

    __slots__ = ("__weakref__", "entries", "item_keys", "segments", "step_count")

    def __init__(self, entries: Sequence[Entry], segments: Sequence[Segment]) -> None:
        self.entries = entries
        self.segments = segments
        self.step_count = sum(map(len, segments))
        self.item_keys = frozenset().union(*(segment.item_keys for segment in segments))

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Return the subscribers for entries in any order, with the tables built if they are used.

        Otherwise, the first event would wait until all of them are built.
        """
        ordered = sorted(entries, key=_name)
        segments, batch, cost = [], [], 0
        for entry in ordered:
            batch.append(entry)
            cost += _cost(entry)
            if cost >= SEGMENT_COST:
                segments.append(Segment(batch))
                batch, cost = [], 0
        if batch:
            segments.append(Segment(batch))
        subscribers = cls(tuple(ordered), tuple(segments))
        if subscribers.step_count > FEW:
            for segment in segments:
                segment.build()
        return subscribers

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, entry: Entry) -> "Subscribers":
        """Return these subscribers with an entry, which replaces that of the same flow."""
        without = self.discard(_name(entry))
        place = bisect_left(without.entries, _name(entry), key=_name)
        entries = (*without.entries[:place], entry, *without.entries[place:])
        segments, cost = list(without.segments), _cost(entry)
        for index, segment in enumerate(segments):
            if segment.cost + cost <= SEGMENT_COST:
                segments[index] = Segment([*segment.entries, entry])
                break
        else:
            segments.append(Segment([entry]))
        return Subscribers(entries, tuple(segments))

    def discard(self, name: str) -> "Subscribers":
        """Return these subscribers without a flow; these, if it is not one of them."""
        place = bisect_left(self.entries, name, key=_name)
        if place == len(self.entries) or _name(self.entries[place]) != name:
            return self
        segments = []
        for segment in self.segments:
            if name not in segment.names:
                segments.append(segment)
            elif len(segment.entries) > 1:
                segments.append(Segment(each for each in segment.entries if _name(each) != name))
        entries = (*self.entries[:place], *self.entries[place + 1 :])
        return Subscribers(entries, tuple(segments))

    def candidates(
        self, event: Event, payload: Callable[[], JsonValue], clock: Callable[[], float]
    ) -> Sequence[Entry]:
        """Return the steps that the event can make run, by flow; others fail or are skipped.

        `clock` (seconds) bounds the time of the search.
        """
        if self.step_count <= FEW:
            return self.entries
        values = EventValues(event, payload)
        ends_at = clock() + SEARCH_SECONDS
        found: dict[str, Entry] = {}
        for segment in self.segments:
            for flow, step in segment.candidates(values, searches_texts=clock() < ends_at):
                name = flow.version.flow.name
                _, steps = found.get(name, (flow, ()))
                found[name] = flow, (*steps, step)
        return [found[name] for name in sorted(found)]


def _name(entry: Entry) -> str:
    return entry[0].version.flow.name


def _cost(entry: Entry) -> int:
    """Return the cost of building the tables for the steps of a flow, see `SEGMENT_COST`."""
    sizes = (
        pattern.size
        for step in entry[1]
        for condition in step.conditions
        for pattern in condition.patterns
    )
    return len(entry[1]) + sum(sizes) // INSTRUCTIONS
