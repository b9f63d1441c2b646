"""JSON texts as MongoDB keeps them: as values that others can read, and letter by letter."""

import json
from datetime import UTC, datetime

import bson
import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from flyteops.storage.mongodb.value import json_of, of_json, of_strings, strings_of, to_json

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_every_json_text_comes_back_as_it_was_and_can_be_stored(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    kept = of_json(text)
    document = bson.decode(bson.encode({"value": kept.value, "exact": kept.exact}))
    assert json_of(document["value"], document["exact"]) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"b":1,"a":[true,null,"x",1.5]}', {"b": 1, "a": [True, None, "x", 1.5]}),
        (b'{"b.c":{"":9223372036854775807}}', {"b.c": {"": 2**63 - 1}}),
        ('"ü☃\\u0000"'.encode(), "ü☃\0"),
    ],
)
def test_what_bson_can_say_is_kept_as_such(text, value):
    kept = of_json(text)
    assert kept == (value, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1.0", 1.0),
        (b'{ "a": 1 }', {"a": 1}),
        (b"12345678901234567890123", 1.2345678901234568e22),
        (b'{"$set":{"$a":1}}', {"\uff04set": {"\uff04a": 1}}),
        (b'{"a\\u0000b":1}', {"a\u2400b": 1}),
        (b"1e400", None),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"[" * 500 + b"]" * 500, None),
    ],
)
def test_what_bson_cannot_say_is_kept_as_near_as_can_be_and_exactly_besides(text, value):
    kept = of_json(text)
    assert kept.exact == text.decode()
    assert json_of(kept.value, kept.exact) == text
    bson.encode({"value": kept.value})
    if value is not None:
        assert kept.value == value


def test_numbers_of_the_original_are_written_as_go_writes_them():
    assert to_json({"whole": 3.0, "part": 0.5, "large": 1e22, "long": 2**40}) == (
        b'{"whole":3,"part":0.5,"large":1e22,"long":1099511627776}'
    )
    assert to_json([float("nan"), float("inf"), Decimal128("1.5"), b"\0", ObjectId("0" * 24)]) == (
        b'[null,null,1.5,"AA==","000000000000000000000000"]'
    )


@pytest.mark.parametrize(
    "strings", [{}, {"env": "prod", "a.b": ""}, {"$a": "x", "\uff04a": "y", "\0": "z"}]
)
def test_labels_come_back_whatever_they_are_named(strings):
    kept = of_strings(strings)
    document = bson.decode(bson.encode({"value": kept.value, "exact": kept.exact}))
    assert strings_of(document["value"], document["exact"]) == strings


def test_a_date_of_another_program_is_written_as_every_other_timestamp():
    at = datetime(2026, 3, 1, 12, 30, 0, 500_000, tzinfo=UTC)
    assert to_json({"at": at}) == b'{"at":"2026-03-01T12:30:00.5Z"}'
