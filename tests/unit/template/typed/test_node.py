"""Expressions have the values, and the types, that the language promises."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from flyteops.errors import TemplateRenderError
from tests.typed import BIG, NOW, failure, printed, render, value


class Same:
    """Equal to a value of the same type, so that 3 is not 3.0 and not True."""

    def __init__(self, wanted: object) -> None:
        self.wanted = wanted

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self.wanted) and other == self.wanted

    def __hash__(self) -> int:
        return hash(self.wanted)

    def __repr__(self) -> str:
        return f"{self.wanted!r} of {type(self.wanted).__name__}"


SCOPE = {
    "n": 3,
    "h": 2.5,
    "whole": 3.0,
    "big": BIG,
    "s": "text",
    "nul": None,
    "t": True,
    "l": [1, "a", None],
    "e": [],
    "m": {"k": "v", "foo-bar": 1, "nul": None, "deep": [{"x": "y"}], "if": 2},
    "at": datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    "later": datetime(2026, 3, 1, 14, 0, 1, 500_000, tzinfo=timezone(timedelta(hours=1))),
}

LITERALS = [
    ("3", 3),
    ("007", 7),
    ("2.5", 2.5),
    ("1e3", 1000.0),
    ("25e-1", 2.5),
    ("-5", -5),
    ("-2.5", -2.5),
    (str(BIG), BIG),
    ("true", True),
    ("True", True),
    ("false", False),
    ("null", None),
    ("none", None),
    ("''", ""),
    ("[]", []),
    ("[1, 'a', [true],]", [1, "a", [True]]),
    ("{}", {}),
    ("{'a': 1, s: {'b': null}}", {"a": 1, "text": {"b": None}}),
    ('{"a": {"b": {}}}', {"a": {"b": {}}}),
]

ARITHMETIC = [
    ("n + 1", 4),
    ("n + 1.0", 4.0),
    ("n - 5", -2),
    ("n * h", 7.5),
    ("7 / 2", 3.5),
    ("6 / 2", 3),
    ("6.0 / 2", 3.0),
    ("7 // 2", 3),
    ("-7 // 2", -4),
    ("-7 % 3", 2),
    ("7.5 % 2", 1.5),
    ("1 + 2 * 3", 7),
    ("(1 + 2) * 3", 9),
    ("2 - 3 - 4", -5),
    ("100 / 5 / 2", 10),
    ("- n", -3),
    ("--n", 3),
    ("-(n + 1)", -4),
    ("2 --n", 5),
    ("big + 1", BIG + 1),
    ("big * big", BIG * BIG),
    ("big / 1", BIG),
    ("big - big", 0),
    ("big // 10 * 10 + big % 10", BIG),
]

JOINING = [
    ("'a' + 'b'", "ab"),
    ("[1] + l", [1, 1, "a", None]),
    ("1 ~ 'a'", "1a"),
    ("n ~ nul ~ t ~ whole", "3true3"),
    ("'n: ' ~ n + 1", "n: 4"),
    ("l ~ m.deep", '[1,"a",null][{"x":"y"}]'),
]

CONDITIONS = [
    ("0 == 0.0", True),
    ("n == whole", True),
    ("big == big + 0.0", False),
    ("n == '3'", False),
    ("t == 1", False),
    ("false == 0", False),
    ("nul == null", True),
    ("m.missing == null", True),
    ("m.nul == m.missing", True),
    ("nul == false", False),
    ("nul == ''", False),
    ("l == [1, 'a', null]", True),
    ("l == [1.0, 'a', null]", True),
    ("[true] == [1]", False),
    ("l != e", True),
    ("{'a': [1]} == {'a': [1.0]}", True),
    ("{'a': 1} == {'b': 1}", False),
    ("{'a': null} == {'b': null}", False),
    ("at == '2026-03-01T12:00:00Z'", False),
    ("n < 4", True),
    ("n <= 3.0", True),
    ("'a' < 'b'", True),
    ("at < later", True),
    ("later >= at", True),
    ("1 < n < 4", True),
    ("1 < n < 3", False),
    ("big > big - 1", True),
    ("'ex' in s", True),
    ("'x' not in s", False),
    ("null in l", True),
    ("1.0 in l", True),
    ("'k' in m", True),
    ("1 in m", False),
    ("'a' in m.missing", False),
    ("'a' not in nul", True),
    ("not n", False),
    ("not nul", True),
    ("not e", True),
    ("not n == 4", True),
    ("not 1 in l", False),
    ("n and s", True),
    ("nul or 0", False),
    ("nul or 'x'", True),
    ("true or false and false", True),
    ("(true or false) and false", False),
    ("not false and false", False),
    ("false and nul.x > 1", False),
    ("true or nul > 1", True),
    ("1 + 1 == 2 and 'a' ~ 'b' == 'ab'", True),
]

CHOICES = [
    ("1 if t else 2", 1),
    ("1 if e else 2", 2),
    ("1 if e else 2 if nul else 3", 3),
    ("1 if n == 3 and t else 2", 1),
    ("(nul if t else 1)", None),
    ("[1 if t else 2, 3]", [1, 3]),
    ("1 + 2 if t else 0", 3),
    ("nul > 1 if nul else 'none'", "none"),
]

READING = [
    ("m.k", "v"),
    ("m['k']", "v"),
    ("m['foo-bar']", 1),
    ('m["foo-bar"] + 1', 2),
    ("m.if", 2),
    ("m . k", "v"),
    ("m.missing", None),
    ("m.missing.more.and['more'][0]", None),
    ("m[s]", None),
    ("m['k' ~ '']", "v"),
    ("l[0]", 1),
    ("l.1", "a"),
    ("l[-2]", "a"),
    ("l[9]", None),
    ("l[n]", None),
    ("m.deep.0.x", "y"),
    ("m.deep[0]['x']", "y"),
    ("s[0]", "t"),
    ("s[4]", None),
    ("[[1, 2]][0][1]", 2),
    ("[[1.5]].0.0", 1.5),
    ("{'a': 5}.a", 5),
    ("(l + [7])[3]", 7),
    ("(m).k", "v"),
    ("(m.deep)[0].x", "y"),
]

DEFINED = [
    ("m.k is defined", True),
    ("m.nul is defined", True),
    ("m.missing is defined", False),
    ("m.missing.x is not defined", True),
    ("m.k is not defined", False),
    ("s.field is defined", False),
    ("l[9] is defined", False),
    ("l[2] is defined", True),
    ("unknown is defined", False),
    ("unknown.x is not defined", True),
    ("not m.k is defined", False),
    ("m.k is defined and m.k == 'v'", True),
    ("(m.k is defined) == true", True),
    ("datastore('nope') is defined", False),
    ("datastore('nothing') is defined", True),
    ("datastore('team').lead is defined", True),
]

FUNCTIONS = [
    ("datastore('team')", {"lead": "ann"}),
    ("datastore('team').lead", "ann"),
    ("datastore('te' ~ 'am')['lead']", "ann"),
    ("datastore('nope')", None),
    ("datastore('nope').x", None),
    ("datastore('count') == 0", True),
    ("now()", NOW),
    ("now() == now()", True),
    ("range(3)", [0, 1, 2]),
    ("range(0)", []),
    ("randomInt(1)", 0),
    ("randomAlpha(0)", ""),
]

TIMES = [
    ("later - at", 3601.5),
    ("at - at", 0),
    ("at + 60", datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
    ("at - 0.5", datetime(2026, 3, 1, 11, 59, 59, 500_000, tzinfo=UTC)),
    ("(now() - at) / 60", 30),
    ("later", SCOPE["later"]),
]

ALL = [
    *LITERALS,
    *ARITHMETIC,
    *JOINING,
    *CONDITIONS,
    *CHOICES,
    *READING,
    *DEFINED,
    *FUNCTIONS,
    *TIMES,
]


@pytest.mark.parametrize(("expression", "wanted"), ALL)
def test_an_expression_has_its_value(expression, wanted):
    assert value(expression, **SCOPE) == Same(wanted)


@pytest.mark.parametrize(
    ("literal", "wanted"),
    [
        (r"'^deploy (\w+)$'", r"^deploy (\w+)$"),
        (r"'\d\.\s'", r"\d\.\s"),
        (r"'a\nb\tc'", "a\nb\tc"),
        (r"'\\n'", r"\n"),
        (r"'\"\''", "\"'"),
        (r'"\"\'"', "\"'"),
        (r"'\\\\'", r"\\"),
        ("'two\nlines'", "two\nlines"),
        ("'}} %} {{'", "}} %} {{"),
        ("'é😀'", "é😀"),
    ],
)
def test_only_five_escapes_have_a_meaning(literal, wanted):
    assert value(literal) == wanted


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("3", "3"),
        ("3.0", "3"),
        ("2.5", "2.5"),
        ("7 / 2", "3.5"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("1e15", "1000000000000000"),
        ("1e21", "1e+21"),
        ("-0.0", "0"),
        ("big", str(BIG)),
        ("[big, 1.0]", f"[{BIG},1]"),
        ("true", "true"),
        ("false", "false"),
        ("nul", ""),
        ("m.missing", ""),
        ("datastore('nope')", ""),
        ("s", "text"),
        ("l", '[1,"a",null]'),
        ("{'b': 1, 'a': 'é'}", '{"a":"é","b":1}'),
        ("at", "2026-03-01T12:00:00Z"),
        ("later", "2026-03-01T13:00:01.5Z"),
        ("[at]", '["2026-03-01T12:00:00Z"]'),
    ],
)
def test_a_value_is_printed_in_its_form(expression, wanted):
    assert printed(expression, **SCOPE) == wanted


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("'a' + 1", "cannot add a text and a number; join them as text with ~"),
        ("1 + 'a'", "cannot add a number and a text; join them"),
        ("l + 1", "cannot add a list and a number"),
        ("m + m", "cannot add a map and a map"),
        ("t + 1", "cannot add a boolean and a number"),
        ("nul + 1", "cannot add null and a number; give the missing value one with |default"),
        ("at + at", "cannot add a time and a time"),
        ("1 - at", "cannot subtract a number and a time"),
        ("'a' - 'b'", "cannot subtract a text and a text"),
        ("'a' * 3", "cannot multiply a text and a number; convert the text with |integer"),
        ("l / 2", "cannot divide a list and a number"),
        ("s % 2", "cannot divide a text and a number"),
        ("-s", "a text has no sign"),
        ("-t", "a boolean has no sign"),
        ("1 / 0", "division by zero"),
        ("1 // 0.0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("'2' < 3", "cannot order a text and a number; convert one with"),
        ("nul > 3", "cannot order null and a number; give the missing value one"),
        ("l < l", "cannot order a list and a list"),
        ("t < t", "cannot order a boolean and a boolean"),
        ("at < s", "cannot order a time and a text"),
        ("1 in s", "cannot search a text for a number"),
        ("1 in 2", "'in' needs a text, a list or a map, not a number"),
        ("s.field", "a text has no part 'field'"),
        ("n.field", "a number has no part 'field'"),
        ("l.field", "a list has no part 'field'; read an item with [0], or all with |map('field')"),
        ("at.Year", "a time has no part 'Year'; use the filter date"),
        ("n[0]", "a number has no parts"),
        ("m[0]", "the keys of a map are texts, not a number"),
        ("l[1 / 2]", "the index of a list must be an integer"),
        ("l[t]", "the index of a list must be an integer, not a boolean"),
        ("{1: 2}", "the keys of a map are texts, not a number"),
        ("1e308 * 10", "too large for a number"),
        ("1e308 + 1e308", "too large for a number"),
        ("at + 1e18", "before year 1 or after year 9999"),
        ("datastore(1 + 1)", "the key of a datastore item is a text, not a number"),
        ("range(-1)", "range needs an integer from 0, not -1"),
        ("range('3')", "range needs an integer from 0, not a text"),
        ("randomInt(0)", "randomInt needs a bound of at least 1"),
    ],
)
def test_operands_that_do_not_fit_are_refused(expression, message):
    error = failure("{{ " + expression + " }}", SCOPE)
    assert isinstance(error, TemplateRenderError)
    assert message in error.message


def test_an_integer_has_at_most_a_thousand_digits():
    digits = "9" * 1_000
    assert value(digits) == int(digits)
    assert printed(f"{digits} - 1") == str(int(digits) - 1)
    assert "too large" in failure("{{ 1" + "0" * 1_100 + " }}").message
    assert "too large" in failure("{{ n * n }}", {"n": 10**600}).message
    assert "too large" in failure("{{ n + 0.5 }}", {"n": 10**400}).message
    assert "too large" in failure("{{ n }}|", {"n": 10**5_000}).message
    assert "too large" in failure("{{ n }}", {"n": 10**5_000}).message


def test_operands_are_evaluated_from_left_to_right_and_only_if_needed():
    assert failure("{{ a.x + b.x }}", {"a": 1, "b": 2}).column == 4
    assert value("true or 1 / 0") is True
    assert value("2 < 1 < 1 / 0") is False


def test_random_values_come_from_the_runtime():
    names = {value("uuid()") for _ in range(2)}
    assert len(names) == 1
    assert [len(part) for part in names.pop().split("-")] == [8, 4, 4, 4, 12]
    assert value("randomInt(100)") == value("randomInt(100)")
    assert render("{{ uuid() == uuid() }}") is True  # the runtime decides: here it starts anew
    assert value("randomAlpha(12)").isalpha()


def test_no_attribute_is_read_by_a_name_of_a_template():
    for source in ("x.__class__", "x.real", "x['__class__']", "l.append", "d.year"):
        scope = {"x": 1, "l": [], "d": NOW}
        assert "has no part" in failure("{{ " + source + " }}", scope).message
    assert value("m.keys", m={}) is None
    assert "only functions can be called" in failure("{{ m.keys() }}", {"m": {}}).message
