"""JSON and YAML text to documents; faults are reported with their place."""

import json
import re

import msgspec
import yaml

from flyteops.document.position import MAX_DEPTH, Document, Position, Positions, invalid
from flyteops.document.yamlreader import NUMBERS, Loader, YamlReader
from flyteops.errors import InputError
from flyteops.model import JsonValue

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

BRACKETS = bytes.maketrans(b"{}", b"[]")
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


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
        repaired = repair_json(data)
        if repaired == data:
            raise
    return msgspec.json.decode(repaired)


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
        value, places = YamlReader().read(yaml.parse(text, Loader=Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.problem == "found unexpected end of stream":
            mark = error.context_mark or mark  # the end of the file says nothing
        message = " ".join(filter(None, (error.context, error.problem)))
        hint = next((hint for words, hint in YAML_HINTS if words in message), "")
        message = f"{message}; {hint}" if hint else message
        raise invalid(
            "YAML", message, Position(mark.line + 1, mark.column + 1) if mark else None
        ) from error
    except yaml.reader.ReaderError as error:
        message = (
            f'{str(error).splitlines()[0]}; write it as an escape in double quotes, such as "\\x1b"'
        )
        raise invalid("YAML", message, _place_of_character(text, error.character)) from error
    except yaml.YAMLError as error:
        raise invalid("YAML", str(error).splitlines()[0], None) from error
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
        raise invalid(kind, f"byte 0x{data[error.start]:02x} is not UTF-8 text", place) from error


def _not_json(data: bytes, error: Exception) -> InputError:
    text = _utf8(data, "JSON")
    if not text.strip():
        return invalid("JSON", "it is empty", Position(1, 1))
    try:
        json.loads(text)
    except json.JSONDecodeError as fault:
        return invalid(
            "JSON", fault.msg[0].lower() + fault.msg[1:], Position(fault.lineno, fault.colno)
        )
    except (ValueError, RecursionError):
        pass
    return _number_out_of_range(data) or invalid("JSON", str(error), None)


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
            return invalid(
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
        raise invalid("JSON", f"it is nested deeper than {MAX_DEPTH} levels", None)


def _places_in_json(data: bytes) -> Positions:
    # JSON is close enough to YAML for its parser to find the places; where it is not, a fault has a
    # path but no place.
    try:
        return YamlReader().read(yaml.parse(data.decode("utf-8-sig"), Loader=Loader))[1]
    except (yaml.YAMLError, InputError, UnicodeDecodeError):
        return Positions()
