"""Documents: JSON and YAML text parsed to plain values, with the places of all parts and faults.

YAML follows JSON's types: dates and times stay text, ``yes`` and ``on`` are booleans while ``y``
and ``n`` are text, keys are always strings as written, a duplicate key is an error, aliases are
expanded within bounds.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import yaml

from flyteops.errors import InputError, Problem
from flyteops.model import JsonValue

MAX_DEPTH = 256
"""The maximum nesting of lists and objects in an input."""

MAX_NODES = 200_000
"""The maximum number of values of a YAML document after its aliases are expanded."""

ALIASED_TEXT = 64
"""The number of characters that count as one value, since aliases repeat long texts too."""

MAX_PROBLEMS = 200
"""The maximum number of reported faults of a document.

More of them mean an input of another kind.
"""

JSON_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
JSON_TEXT_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
NOT_UTF8 = re.compile("[\udc80-\udcff]")
JSON_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|"
    rb"(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape in a text; the group is half of a surrogate pair without the other half."""

JSON_LONG_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?[eE][-+]?[0-9]+|-?[0-9]{300,}(?:\.[0-9]+)?")
"""The numbers that may be out of range."""

NUMBERS = (
    "whole numbers have 4299 digits at most, and numbers with a fraction or an exponent are less"
    " than 1.8e308"
)
"""The range of supported numbers, for error messages."""

YAML_HINTS = (
    ("while scanning an alias", "put text that begins with * in quotes, such as a cron expression"),
    ("while scanning an anchor", "put text that begins with & in quotes"),
    (
        "character that cannot start any token",
        "indent with spaces, not tabs, and put text that begins with @, ` or % in quotes",
    ),
    (
        "mapping values are not allowed",
        "put text that holds ': ' in quotes, and check the indentation",
    ),
    (
        "did not find expected",
        "check quotes, brackets and the indentation, of the lines before as well",
    ),
    ("quoted scalar found unexpected end of stream", "the quote that begins here has no end"),
    (
        "unknown escape character",
        "in double quotes, write a backslash as \\\\, or use single quotes",
    ),
    (
        "could not find expected ':'",
        "check quotes and the indentation, of the lines before as well",
    ),
)
"""Advice about faults that the YAML parser reports, by its words."""

TEMPLATE_HINT = "a key must be text, not a list or a mapping; put templates {{ ... }} in quotes"

BRACKETS = bytes.maketrans(b"{}", b"[]")
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

T = TypeVar("T")

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Position(NamedTuple):
    """The line and column at which a part of a text begins, both counted from 1."""

    line: int
    column: int


Path = tuple[str | int, ...]


def path_text(path: Path) -> str:
    """Return a path in its readable form: ``steps[0].command.name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class Positions:
    """The place of a value and of each of its parts, as a tree like the value itself.

    So its size is proportional to that of the value.
    """

    __slots__ = ("parts", "place")

    def __init__(self, place: Position | None = None) -> None:
        self.place = place
        self.parts: dict[str | int, Positions] | None = None

    def add(self, part: str | int, place: Position) -> "Positions":
        """Record the place of a part."""
        if self.parts is None:
            self.parts = {}
        added = self.parts[part] = Positions(place)
        return added

    def find(self, path: Path) -> Position | None:
        """Return the place of the value at `path`, or of the innermost known value around it."""
        places, found = self, self.place
        for part in path:
            inner = (places.parts or {}).get(part)
            if inner is None:
                break
            places, found = inner, inner.place
        return found


class Document:
    """A parsed text: its `value`, and the place of each part of it in the text."""

    def __init__(self, value: JsonValue, places: Callable[[], Positions] = Positions) -> None:
        self.value = value
        self._find_places = places
        self._places: Positions | None = None

    def place(self, path: Path) -> Position | None:
        """Return the place of the value at `path`, or of the innermost value around it.

        None if that is not known. The case of keys counts only for keys that differ in nothing
        else.
        """
        if self._places is None:
            self._places = self._find_places()
        return self._places.find(tuple(_as_written(self.value, path)))

    def with_value(self, value: JsonValue) -> "Document":
        """Return a document with another value and the same places."""
        return Document(value, self._find_places)

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem with the value at `path`."""
        place = self.place(path)
        return Problem(path_text(path), message, *(place or (None, None)))


def _as_written(value: JsonValue, path: Path) -> Iterator[str | int]:
    """Yield a path with its keys as written in the value, for as long as the value has them."""
    for key in path:
        if isinstance(value, dict) and isinstance(key, str):
            written = (
                key
                if key in value
                else next((other for other in value if other.casefold() == key.casefold()), key)
            )
            yield written
            value = value.get(written)
        else:
            yield key
            value = (
                value[key]
                if isinstance(value, list) and isinstance(key, int) and key < len(value)
                else None
            )


# ------------------------------------------------------------------------------------------ parsing


def parse_json(data: bytes) -> Document:
    """Parse JSON text; raise `InputError` with the place of the first fault."""
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_json_depth(data)
    try:
        value = decode_json(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_json(repair_json(data), error) from error
    return Document(value, lambda: _places_in_json(data))


def decode_json(data: bytes) -> JsonValue:
    """Decode JSON text; raise `msgspec.DecodeError`, `ValueError` or `RecursionError`.

    See `repair_json`.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError):
        mended = repair_json(data)
        if mended == data:
            raise
    return msgspec.json.decode(mended)


def repair_json(data: bytes) -> bytes:
    """Return JSON text with U+FFFD for each byte not in UTF-8 and each lone surrogate."""
    data = NOT_UTF8.sub("\ufffd", data.decode("utf-8", "surrogateescape")).encode()
    return JSON_ESCAPE.sub(lambda escape: escape[0] if escape[1] is None else b"\\ufffd", data)


def first_json(data: bytes) -> bytes:
    """Return JSON text up to the end of its first object or list.

    All of it if it begins with neither.

    The original reads the body of a request in this way.
    """
    begin = len(data) - len(data.lstrip(b" \t\r\n"))
    if data[begin : begin + 1] not in (b"{", b"["):
        return data
    depth = 0
    for found in JSON_TEXT_OR_BRACKET.finditer(data, begin):
        mark = found[0]
        depth += (mark in (b"{", b"[")) - (mark in (b"}", b"]"))
        if depth == 0:
            return data[: found.end()]
    return data


def parse_yaml(data: bytes) -> Document:
    """Parse one YAML document; raise `InputError` with the place of the first fault."""
    text = _utf8(data, "YAML")
    try:
        value, places = _YamlReader().read(yaml.parse(text, Loader=Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.problem == "found unexpected end of stream":
            mark = error.context_mark or mark  # the end of the file says nothing
        message = " ".join(filter(None, (error.context, error.problem)))
        hint = next((hint for words, hint in YAML_HINTS if words in message), "")
        message = f"{message}; {hint}" if hint else message
        raise _invalid(
            "YAML", message, Position(mark.line + 1, mark.column + 1) if mark else None
        ) from error
    except yaml.reader.ReaderError as error:
        message = (
            f'{str(error).splitlines()[0]}; write it as an escape in double quotes, such as "\\x1b"'
        )
        raise _invalid("YAML", message, _place_of_character(text, error.character)) from error
    except yaml.YAMLError as error:
        raise _invalid("YAML", str(error).splitlines()[0], None) from error
    return Document(value, lambda: places)


def _place_of_character(text: str, character: object) -> Position | None:
    found = text.find(chr(character)) if isinstance(character, int) else -1
    if found < 0:
        return None
    return Position(text.count("\n", 0, found) + 1, found - text.rfind("\n", 0, found))


def _utf8(data: bytes, kind: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode()
        place = Position(good.count("\n") + 1, len(good) - good.rfind("\n"))
        raise _invalid(kind, f"byte 0x{data[error.start]:02x} is not UTF-8 text", place) from error


def _invalid(kind: str, message: str, place: Position | None) -> InputError:
    problem = Problem("", message, *(place or (None, None)))
    return InputError(f"The body is not valid {kind}: {problem.message}.", problems=[problem])


def _not_json(data: bytes, error: Exception) -> InputError:
    text = _utf8(data, "JSON")
    if not text.strip():
        return _invalid("JSON", "it is empty", Position(1, 1))
    try:
        json.loads(text)
    except json.JSONDecodeError as fault:
        return _invalid(
            "JSON", fault.msg[0].lower() + fault.msg[1:], Position(fault.lineno, fault.colno)
        )
    except (ValueError, RecursionError):
        pass
    return _number_out_of_range(data) or _invalid("JSON", str(error), None)


def _number_out_of_range(data: bytes) -> InputError | None:
    """Return the fault of the first number that is out of range, None if there is none."""
    without_texts = JSON_TEXT.sub(lambda found: b" " * len(found[0]), data)
    for number in JSON_LONG_NUMBER.finditer(without_texts):
        try:
            msgspec.json.decode(number[0])
        except (msgspec.MsgspecError, ValueError):
            start = number.start()
            before = data[:start].decode(errors="replace")
            place = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
            return _invalid(
                "JSON", f"the number {number[0][:20].decode()}... is out of range: {NUMBERS}", place
            )
    return None


def _check_json_depth(data: bytes) -> None:
    """Check the nesting by removing the innermost level until nothing is left.

    That takes a few passes in C, where a loop over characters takes seconds.
    """
    brackets = JSON_TEXT.sub(b"", data).translate(BRACKETS, NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        peeled = brackets.replace(b"[]", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    if b"[" * MAX_DEPTH in brackets or b"[]" in brackets:
        raise _invalid("JSON", f"it is nested deeper than {MAX_DEPTH} levels", None)


def _places_in_json(data: bytes) -> Positions:
    # JSON is close enough to YAML for its parser to find the places; where it is not, a fault has a
    # path but no place.
    try:
        return _YamlReader().read(yaml.parse(data.decode("utf-8-sig"), Loader=Loader))[1]
    except (yaml.YAMLError, InputError, UnicodeDecodeError):
        return Positions()


NULLS = frozenset(["", "~", "null", "Null", "NULL"])
TRUE = frozenset(["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"])
FALSE = frozenset(["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"])
INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
NOT_A_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
TAG = "tag:yaml.org,2002:"


class _YamlReader:
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
        return _invalid("YAML", message, _place(event))


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


# ------------------------------------------------------------------------------------------ writing

LOOKS_LIKE_SOMETHING_ELSE = re.compile(
    r"[yYnN]|true|false|yes|no|on|off|null|~|<<|=|[-+.]?[0-9][0-9_:.,eExXoObB+a-fA-F-]*([tT"
    r" ].*)?|[-+]?\.(inf|nan)|",
    re.IGNORECASE,
)


class _PlainDumper(Dumper):  # type: ignore[misc] # the class is chosen at run time
    """Writes text that no other reader takes for another type, and never writes aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if LOOKS_LIKE_SOMETHING_ELSE.fullmatch(text):
        style = '"'
    elif "\n" in text and all(line.isprintable() for line in text.split("\n")):
        style = "|"
    return dumper.represent_scalar(TAG + "str", text, style=style)


_PlainDumper.add_representer(str, _represent_text)


def to_yaml(value: JsonValue) -> bytes:
    """Return a JSON value as YAML text that every reader of YAML 1.1 or 1.2 understands alike."""
    text: str = yaml.dump(
        value,
        Dumper=_PlainDumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=1_000_000,
    )
    return text.encode()
