"""Values from the events of a YAML parser, with the place of each part."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import yaml

from flyteops.document.position import MAX_DEPTH, Position, Positions, invalid
from flyteops.errors import InputError
from flyteops.model import JsonValue

MAX_NODES = 200_000
"""The maximum number of values of a YAML document after its aliases are expanded."""

ALIASED_TEXT = 64
"""The number of characters that count as one value, since aliases repeat long texts too."""

NUMBERS = (
    "whole numbers have 4299 digits at most, and numbers with a fraction or an exponent are less"
    " than 1.8e308"
)
"""The range of supported numbers, for error messages."""

TEMPLATE_HINT = "a key must be text, not a list or a mapping; put templates {{ ... }} in quotes"

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

NULLS = frozenset(["", "~", "null", "Null", "NULL"])
TRUE = frozenset(["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"])
FALSE = frozenset(["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"])
INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
NOT_A_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
TAG = "tag:yaml.org,2002:"


class YamlReader:
    """Builds a value from parser events, without recursion: no nesting can exhaust the stack."""

    def __init__(self) -> None:
        self._places = Positions()
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0

    def read(self, events: Iterator[yaml.Event]) -> tuple[JsonValue, Positions]:
        root: list[JsonValue] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root and is_nothing(next(events)):
                    continue  # nothing but a `---` at the end
                if root:
                    raise self._fault(
                        event, "there is more than one document; send them one by one"
                    )
                root.append(self._document(events))
        return (root[0] if root else None), self._places

    def _document(self, events: Iterator[yaml.Event]) -> JsonValue:
        builders: list[_Builder] = [_Builder(self._places, None)]
        for event in events:
            top = builders[-1]
            if isinstance(event, yaml.DocumentEndEvent):
                break
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                builders.append(self._opened(event, top, len(builders)))
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                builders.pop()
                self._close(top, builders[-1], event)
            else:
                self._leaf(cast("yaml.AliasEvent | yaml.ScalarEvent", event), top)
        return builders[0].value

    def _opened(self, event: yaml.CollectionStartEvent, top: "_Builder", depth: int) -> "_Builder":
        self._check_depth(depth, event)
        if top.wants_key:
            raise self._fault(event, TEMPLATE_HINT)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._check_tag(event, "map" if is_mapping else "seq")
        places = self._note(top, event)
        opened = _Builder(places, {} if is_mapping else [], event.anchor, self._nodes)
        opened.depth = depth - 1
        return opened

    def _check_depth(self, depth: int, event: yaml.Event) -> None:
        if depth > MAX_DEPTH:
            raise self._fault(event, f"it is nested deeper than {MAX_DEPTH} levels")

    def _check_tag(self, event: yaml.CollectionStartEvent, kind: str) -> None:
        if event.tag not in (None, "!", TAG + kind):
            raise self._fault(event, f"the tag {event.tag.replace(TAG, '!!')} has no meaning here")

    def _close(self, closed: "_Builder", parent: "_Builder", event: yaml.Event) -> None:
        if closed.merged:
            merged = {
                key: value for source in reversed(closed.merged) for key, value in source.items()
            }
            closed.value = {**merged, **closed.value}
        if closed.anchor is not None:
            self._anchors[closed.anchor] = _Anchored(
                closed.value, self._nodes - closed.nodes_before, closed.height
            )
        parent.height = max(parent.height, closed.height + 1)
        self._attach(parent, closed.value, event)

    def _leaf(self, event: yaml.AliasEvent | yaml.ScalarEvent, top: "_Builder") -> None:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._fault(event, f"the alias *{event.anchor} has no anchor before it")
            source = self._anchors[event.anchor]
            self._count(source.nodes, event)
            self._check_depth(top.depth + source.height, event)
            top.height = max(top.height, source.height + 1)
            self._note(top, event)
            self._attach(top, source.value, event)
        elif top.wants_key:
            self._set_key(top, event)
        else:
            value = self._scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = _Anchored(
                    value, 1 + len(event.value) // ALIASED_TEXT, 0
                )
            self._note(top, event)
            self._attach(top, value, event)

    def _set_key(self, top: "_Builder", event: yaml.ScalarEvent) -> None:
        key = event.value
        if key in top.value:
            raise self._fault(event, f"the key {key!r} is given twice")
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(key, 1, 0)
        top.key, top.key_is_merge = key, key == "<<" and event.implicit[0]

    def _attach(self, top: "_Builder", value: JsonValue, event: yaml.Event) -> None:
        if isinstance(top.value, dict) and top.wants_key:
            if not isinstance(value, str):
                raise self._fault(event, TEMPLATE_HINT)
            top.key = value
        elif top.key_is_merge:
            sources = value if isinstance(value, list) else [value]
            if not all(isinstance(source, dict) for source in sources):
                raise self._fault(event, "'<<' takes a mapping, or a list of mappings")
            top.merged = sources
            top.key, top.key_is_merge = None, False
        else:
            top.add(value)

    def _note(self, top: "_Builder", event: yaml.Event) -> Positions:
        self._count(1 + len(getattr(event, "value", "")) // ALIASED_TEXT, event)
        return top.note(_place(event))

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._fault(
                event, f"it holds more than {MAX_NODES} values once its aliases are expanded"
            )

    def _scalar(self, event: yaml.ScalarEvent) -> JsonValue:
        if event.tag in ("!", TAG + "str", TAG + "timestamp") or (
            event.tag is None and not event.implicit[0]
        ):
            return event.value
        if event.tag is not None and event.tag not in {
            TAG + kind for kind in ("int", "float", "bool", "null")
        }:
            raise self._fault(event, f"the tag {event.tag.replace(TAG, '!!')} has no meaning here")
        value = self._plain(event)
        if event.tag is not None and isinstance(value, str):
            raise self._fault(
                event, f"{value!r} does not fit the tag {event.tag.replace(TAG, '!!')}"
            )
        return value

    def _plain(self, event: yaml.ScalarEvent) -> JsonValue:
        text: str = event.value
        if text in NULLS:
            return None
        if text in TRUE or text in FALSE:
            return text in TRUE
        if NOT_A_NUMBER.fullmatch(text):
            raise self._fault(
                event, f"{text} is not a JSON number; quote it if it is meant as text"
            )
        try:
            return _number(text)
        except ValueError as error:
            raise self._fault(
                event, f"the number {text[:20]}... is out of range: {NUMBERS}"
            ) from error

    def _fault(self, event: yaml.Event, message: str) -> InputError:
        return invalid("YAML", message, _place(event))


def _place(event: yaml.Event) -> Position:
    mark = cast("yaml.Mark", event.start_mark)
    return Position(mark.line + 1, mark.column + 1)


def is_nothing(event: yaml.Event) -> bool:
    """Return whether a document is empty, by its first event."""
    return (
        isinstance(event, yaml.ScalarEvent)
        and event.value == ""
        and event.implicit[0]
        and event.anchor is event.tag is None
    )


def _number(text: str) -> JsonValue:
    if INTEGER.fullmatch(text):
        return _integer(text.replace("_", ""))
    if FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if value in (float("inf"), float("-inf")):
            raise ValueError(text)
        return value
    return text


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    is_old_octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    return sign * int("0o" + digits[1:] if is_old_octal else digits, 0)


class _Anchored(NamedTuple):
    """A value that aliases may repeat, with its number of values and of levels."""

    value: JsonValue
    nodes: int
    height: int


class _Builder:
    """A list or an object that is being read; the outermost one holds the document's only value."""

    __slots__ = (
        "anchor",
        "depth",
        "height",
        "key",
        "key_is_merge",
        "merged",
        "nodes_before",
        "places",
        "value",
    )

    def __init__(
        self, places: Positions, value: JsonValue, anchor: str | None = None, nodes_before: int = 0
    ) -> None:
        self.places = places
        self.depth = 0
        self.value = value
        self.anchor = anchor
        self.nodes_before = nodes_before
        self.height = 1
        self.key: str | None = None
        self.key_is_merge = False
        self.merged: list[dict[str, JsonValue]] = []

    @property
    def wants_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None

    def note(self, place: Position) -> Positions:
        """Record the place at which the next value begins."""
        if isinstance(self.value, list):
            return self.places.add(len(self.value), place)
        if isinstance(self.value, dict):
            return self.places if self.key is None else self.places.add(self.key, place)
        self.places.place = place
        return self.places

    def add(self, value: JsonValue) -> None:
        if isinstance(self.value, dict):
            self.value[self.key] = value
            self.key = None
        elif isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value = value
