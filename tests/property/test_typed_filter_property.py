"""Filters of edition 2 on any JSON: order, equality, groups and round trips; whatever they are
given, they answer, or refuse with an error of the template.
"""

import base64
import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime
from html import unescape
from itertools import pairwise
from urllib.parse import unquote_plus
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteops.errors import TemplateRenderError
from flyteops.template.typed.filter import FILTERS
from flyteops.template.typed.value import equal, to_json
from tests.filters import apply, environment

pytestmark = pytest.mark.property

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, "1", "true"])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
LISTS = st.lists(VALUES, max_size=12)
NUMBERS = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
ORDERED = (
    st.lists(NUMBERS)
    | st.lists(st.integers(0, 3) | st.sampled_from([0.0, 1.0, 2.0]))
    | st.lists(st.text(max_size=3))
    | st.lists(st.datetimes(timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin")])))
)
TIMES = st.datetimes(
    min_value=datetime.fromisoformat("0001-01-03"),
    max_value=datetime.fromisoformat("9999-12-29"),
    timezones=st.just(UTC),
)


def are_equal(left, right):
    return equal(left, right, environment())


@given(LISTS)
def test_unique_keeps_the_first_of_each_equal_value(items):
    expected = []
    for item in items:
        if not any(are_equal(item, kept) for kept in expected):
            expected.append(item)
    kept = apply("unique", items)
    assert len(kept) == len(expected)
    assert all(each is other for each, other in zip(kept, expected, strict=True))


@given(ORDERED)
def test_sort_is_stable_and_ordered(items):
    numbered = [{"rank": item, "place": place} for place, item in enumerate(items)]
    result = apply("sort", numbered, "rank")
    assert sorted(each["place"] for each in result) == list(range(len(items)))
    for left, right in pairwise(result):
        assert left["rank"] <= right["rank"]
        assert left["rank"] < right["rank"] or left["place"] < right["place"]
    if items:
        assert apply("min", items) == result[0]["rank"]
        assert apply("max", items) == result[-1]["rank"]


@given(st.lists(st.tuples(st.sampled_from([1, 1.0, True, "1", None, [], [1]]), VALUES)))
def test_groups_have_all_items_once_in_their_order(pairs):
    items = [{"kind": kind, "value": value} for kind, value in pairs]
    groups = apply("groupby", items, "kind")
    for group in groups:
        same = [item for item in items if are_equal(item["kind"], group["key"])]
        assert [id(item) for item in group["items"]] == [id(item) for item in same]
        assert apply("select", items, "kind", group["key"]) == group["items"]
    assert sum(len(group["items"]) for group in groups) == len(items)


def leaves(items):
    for item in items:
        if isinstance(item, list):
            yield from leaves(item)
        else:
            yield item


@given(LISTS)
def test_flatten_keeps_all_that_is_no_list_in_order(items):
    flat = apply("flatten", items)
    assert flat == list(leaves(items))
    assert apply("flatten", items, 1) == [
        each for item in items for each in (item if isinstance(item, list) else [item])
    ]
    assert apply("flatten", flat) == flat


@given(LISTS, VALUES, st.sampled_from(["eq", "ne", "in"]))
def test_select_and_reject_share_out_a_list(items, wanted, test):
    operand = [wanted] if test == "in" else wanted
    chosen, others = (
        apply("select", items, "", test, operand),
        apply("reject", items, "", test, operand),
    )
    left = iter(chosen), iter(others)
    for item in items:
        fits = are_equal(item, wanted) is (test != "ne")
        assert next(left[0 if fits else 1]) is item
    assert len(chosen) + len(others) == len(items)


@given(VALUES)
def test_json_comes_back_as_it_was(value):
    assert are_equal(apply("fromjson", apply("tojson", value)), value)
    assert are_equal(apply("fromjson", json.dumps(to_json(value))), value)


@given(st.text())
def test_encoded_texts_come_back(string):
    encoded = apply("b64encode", string)
    assert base64.b64decode(encoded).decode() == string
    assert apply("b64decode", encoded) == string
    assert (
        apply("b64decode", base64.urlsafe_b64encode(string.encode()).decode().rstrip("=")) == string
    )
    assert unquote_plus(apply("urlencode", string)) == string
    assert unescape(apply("quote_slack", string)) == unescape(string) or "&" in string
    assert apply("sha256", string) == hashlib.sha256(string.encode()).hexdigest()


@given(TIMES, st.sampled_from(["UTC", "Asia/Kolkata", "America/St_Johns", "-03:30"]))
def test_times_come_back_from_their_texts(at, zone):
    for layout in ("%F %T.%f %z", "%Y%j %I:%M:%S %p,%f%:z", "%a, %d %b %Y %H:%M:%S.%f %z"):
        printed = apply("date", at, layout, zone)
        read = apply("parse_date", printed, layout)
        # Zones had offsets with seconds before 1972, which no such text has.
        assert read == at or at.year < 1972
    assert apply("parse_date", apply("date", at, "%s"), "%s") == at.replace(microsecond=0)


@given(st.lists(st.integers(-(2**80), 2**80)))
def test_sums_of_integers_are_exact(numbers):
    assert apply("sum", numbers) == sum(numbers)


ARGUMENTS = (
    VALUES
    | st.integers(-2, 9)
    | st.sampled_from(["a", "a.b", "0", ",", "(a)", "1:2", "%d", "%Y-%m", "match", "ge", "UTC"])
    | st.text(alphabet="%aYmdHMSjIpzZsfFT .-:0129", max_size=8)
    | st.text(alphabet=r"a\1(|)[]*+?^$.", max_size=8)
)


@given(st.data(), st.sampled_from(sorted(FILTERS)), VALUES | TIMES | st.just("a\ud800"))
def test_any_filter_of_any_value_answers_or_refuses(data, name, value):
    known = FILTERS[name]
    count = data.draw(st.integers(known.least, known.most))
    arguments = [data.draw(ARGUMENTS) for _ in range(count)]
    before = repr((value, arguments))
    with suppress(TemplateRenderError):
        to_json(apply(name, value, *arguments, value_length=10_000, list_length=1_000))
    assert repr((value, arguments)) == before
