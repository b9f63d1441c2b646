"""The filters of edition 2: their results, the errors for wrong kinds, and their limits."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from time import perf_counter

import pytest

from flyteops.errors import TemplateLimitError, TemplateRenderError, TemplateSyntaxError
from flyteops.template import Runtime
from flyteops.template.filter import FILTERS as FIRST_EDITION
from flyteops.template.limit import DEFAULT_LIMITS
from flyteops.template.typed import compile_typed
from flyteops.template.typed.filter import FILTERS
from tests.filters import NOW, apply

ADDED = [
    "tojson",
    "fromjson",
    "string",
    "trim",
    "startswith",
    "endswith",
    "replace",
    "regex_replace",
    "regex_findall",
    "b64encode",
    "b64decode",
    "sha256",
    "hmac_sha256",
    "quote_md",
    "quote_slack",
    "table",
    "length",
    "first",
    "last",
    "min",
    "max",
    "sum",
    "round",
    "abs",
    "unique",
    "flatten",
    "keys",
    "values",
    "items",
    "map",
    "sort",
    "groupby",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "date",
    "parse_date",
    "duration",
]
NODES = [
    {"name": "b", "labels": {"env": "prod"}, "cpu": 90},
    {"name": "a", "labels": {"env": "test"}, "cpu": 12.5},
    {"name": "c", "labels": {"env": "prod"}},
]


class Lazy(Mapping):
    """A map that is no dict."""

    def __init__(self, items):
        self._items = items

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


def test_all_filters_of_edition_1_and_the_new_ones_are_there():
    assert set(FILTERS) == set(FIRST_EDITION) | set(ADDED)


RESULTS = [
    ("string", None, (), ""),
    ("string", 3, (), "3"),
    ("string", [1, "a"], (), '[1,"a"]'),
    ("upper", "straße", (), "STRAßE"),
    ("upper", True, (), "TRUE"),
    ("lower", "ABC", (), "abc"),
    ("title", "hello wORLD", (), "Hello World"),
    ("capfirst", "hello", (), "Hello"),
    ("capfirst", "", (), ""),
    ("trim", " \ta b\n ", (), "a b"),
    ("startswith", "deploy web", ("deploy",), True),
    ("startswith", "deploy web", ("web",), False),
    ("startswith", None, ("",), False),
    ("endswith", "deploy web", ("web",), True),
    ("endswith", 404, ("4",), True),
    ("replace", "a.b.c", (".", "-"), "a-b-c"),
    ("replace", "v1", ("1", 2), "v2"),
    ("cut", "a.b.c", (".",), "abc"),
    ("add", 2, (3,), 5),
    ("add", 2**60, (1,), 2**60 + 1),
    ("add", 0.5, (1,), 1.5),
    ("add", "a", (3,), "a3"),
    ("add", [1], ([2],), [1, 2]),
    ("add", None, ("x",), "x"),
    ("addslashes", """a"b'c\\""", (), """a\\"b\\'c\\\\"""),
    ("center", "ab", (6,), "  ab  "),
    ("ljust", "ab", (4,), "ab  "),
    ("rjust", 7, (3,), "  7"),
    ("truncatechars", "abcdefgh", (6,), "abc..."),
    ("truncatewords", "a b c", (2,), "a b ..."),
    ("wordcount", " a b  c ", (), 3),
    ("wordwrap", "a b c", (2,), "a b\nc"),
    ("wordwrap", "a b c d e", (3,), "a b c\nd e"),
    ("linenumbers", "a\nb", (), "1. a\n2. b"),
    ("split", "a,b,,c", (",",), ["a", "b", "", "c"]),
    ("split", "abc", (), ["a", "b", "c"]),
    ("make_list", "né", (), ["n", "é"]),
    ("phone2numeric", "CALL", (), "2255"),
    ("removedupwhitespaces", "a \n b  ", (), "a b"),
    ("safecopypaste", "a\xa0b", (), "a b"),
    ("kvp", "a=1, b = 2, c", (), {"a": "1", "b": "2"}),
    ("stringformat", 7, ("%03d",), "007"),
    ("stringformat", 1.5, ("%.2f",), "1.50"),
    ("stringformat", "a", ("[%5s]",), "[    a]"),
    ("yesno", True, (), "yes"),
    ("yesno", [], ("on,off",), "off"),
    ("yesno", None, (), "maybe"),
    ("default", None, ("x",), "x"),
    ("default", "", ("x",), "x"),
    ("default", [], ([1],), [1]),
    ("default", 0, (5,), 0),
    ("default", False, (True,), False),
    ("default_if_none", None, (1,), 1),
    ("default_if_none", "", (1,), ""),
    ("safe", [1], (), [1]),
    ("pluralize", 1, (), ""),
    ("pluralize", 2, (), "s"),
    ("pluralize", [1], ("y,ies",), "y"),
    ("pluralize", 0, ("y,ies",), "ies"),
    # numbers
    ("sum", [1, 2**70], (), 2**70 + 1),
    ("sum", [0.1] * 10, (), 1.0),
    ("sum", [], (), 0),
    ("sum", None, (), 0),
    ("min", [3, 1.5, 2], (), 1.5),
    ("max", ["a", "b"], (), "b"),
    ("max", [], (), None),
    ("max", [2**64, 2**64 + 1], (), 2**64 + 1),
    ("round", 2.5, (), 3),
    ("round", -2.5, (), -3),
    ("round", 2.4, (), 2),
    ("round", 2.675, (2,), 2.68),
    ("round", 2**70, (), 2**70),
    ("round", 1250, (-2,), 1300),
    ("round", -1250, (-2,), -1300),
    ("round", 1e300, (), int(1e300)),
    ("round", 1250.0, (-2,), 1300),
    ("round", 3.0, (2,), 3.0),
    ("abs", -(2**70), (), 2**70),
    ("abs", -1.5, (), 1.5),
    ("integer", "12345678901234567890", (), 12345678901234567890),
    ("integer", " 3.7 ", (), 3),
    ("integer", -3.7, (), -3),
    ("float", "2.5", (), 2.5),
    ("float", 3, (), 3.0),
    ("floatformat", 3.0, (), "3"),
    ("floatformat", 3.14159, (), "3.1"),
    ("floatformat", 3.14159, (2,), "3.14"),
    ("floatformat", 3, (2,), "3.00"),
    ("floatformat", 3.0, (-2,), "3"),
    ("floatformat", 2.675, (2,), "2.68"),
    ("divisibleby", 21, (7,), True),
    ("divisibleby", 22, (7,), False),
    ("get_digit", 1234, (1,), 4),
    ("get_digit", 1234, (9,), 1234),
    # lists
    ("length", None, (), 0),
    ("length", "né", (), 2),
    ("length", [1, 2], (), 2),
    ("length", Lazy({"a": 1}), (), 1),
    ("length_is", [1, 2], (2,), True),
    ("first", [1, 2], (), 1),
    ("first", [], (), None),
    ("first", "abc", (), "a"),
    ("last", [1, 2], (), 2),
    ("last", None, (), None),
    ("index", ["a", "b"], (1,), "b"),
    ("index", ["a", "b"], (-1,), "b"),
    ("index", ["a", "b"], (2,), None),
    ("slice", "abcdef", ("1:3",), "bc"),
    ("slice", [1, 2, 3], ("-2:",), [2, 3]),
    ("slice", [1, 2, 3], (":2",), [1, 2]),
    ("slice", [1, 2, 3], (1,), [2, 3]),
    ("slice", [1, 2, 3], (0, 2), [1, 2]),
    ("join", [1, "a", None, [2]], (", ",), "1, a, , [2]"),
    ("join", "abc", ("-",), "a-b-c"),
    ("join", [], (",",), ""),
    ("join", [1, 2], (), "12"),
    ("unique", [1, 1.0, True, "1", None, None, [1], [1.0], {"a": 1}, {"a": 1}], (),
     [1, True, "1", None, [1], {"a": 1}]),
    ("flatten", [1, [2, [3, [4]]], None, []], (), [1, 2, 3, 4, None]),
    ("flatten", [1, [2, [3, [4]]]], (1,), [1, 2, [3, [4]]]),
    ("flatten", [[1]], (0,), [[1]]),
    # maps and paths
    ("keys", Lazy({"b": 1, "a": 2}), (), ["a", "b"]),
    ("values", {"b": 1, "a": 2}, (), [2, 1]),
    ("items", {"b": 1, "a": 2}, (), [{"key": "a", "value": 2}, {"key": "b", "value": 1}]),
    ("key", {"foo-bar": 1}, ("foo-bar",), 1),
    ("key", {}, ("a",), None),
    ("map", NODES, ("labels.env",), ["prod", "test", "prod"]),
    ("map", NODES, ("cpu",), [90, 12.5, None]),
    ("map", [{"a": [{"b": 1}]}], ("a.0.b",), [1]),
    ("map", [[1, 2], [3]], (1,), [2, None]),
    ("map", [{"a.b": 1}], (["a.b"],), [1]),
    ("map", [1, "a", None, True], ("x",), [None] * 4),
    ("map", [Lazy({"x": 1})], ("x",), [1]),
    ("map", [[1]], ("-1",), [None]),
    ("sort", [3, 1.5, 2], (), [1.5, 2, 3]),
    ("sort", NODES[:2], ("name",), [NODES[1], NODES[0]]),
    ("sort", [{"k": 1, "n": 1}, {"k": 0, "n": 2}, {"k": 1, "n": 3}], ("k",),
     [{"k": 0, "n": 2}, {"k": 1, "n": 1}, {"k": 1, "n": 3}]),
    ("sort", [], (), []),
    ("groupby", NODES, ("labels.env",),
     [{"key": "prod", "items": [NODES[0], NODES[2]]}, {"key": "test", "items": [NODES[1]]}]),
    ("groupby", [1, True, 1.0], ("",), [{"key": 1, "items": [1, 1.0]}, {"key": True, "items": [True]}]),
    ("select", NODES, ("labels.env", "prod"), [NODES[0], NODES[2]]),
    ("select", NODES, ("labels.env", "ne", "prod"), [NODES[1]]),
    ("select", NODES, ("cpu", None), [NODES[2]]),
    ("select", NODES, ("cpu", "lt", 90), [NODES[1]]),
    ("select", NODES, ("cpu", "le", 90), NODES[:2]),
    ("select", NODES, ("cpu", "gt", 12.5), [NODES[0]]),
    ("select", NODES, ("cpu", "ge", 12.5), NODES[:2]),
    ("select", NODES, ("name", "in", ["a", "c"]), NODES[1:]),
    ("select", NODES, ("name", "in", "abba"), NODES[:2]),
    ("select", NODES, ("name", "in", {"c": 1}), [NODES[2]]),
    ("select", NODES, ("name", "match", "^[ab]$"), NODES[:2]),
    ("select", NODES, ("labels", "match", "."), []),
    ("select", NODES, ("cpu", "eq", 90.0), [NODES[0]]),
    ("reject", NODES, ("labels.env", "prod"), [NODES[1]]),
    ("reject", NODES, ("cpu", "lt", 90), [NODES[0], NODES[2]]),
    ("reject", ["", "a", None], ("", None), ["", "a"]),
    ("selectattr", NODES, ("name", "a"), [NODES[1]]),
    ("rejectattr", NODES, ("name", "a"), [NODES[0], NODES[2]]),
    # patterns
    ("match", "deploy web", (r"^deploy (\w+)$",), True),
    ("match", 404, ("^4",), True),
    ("match", None, ("",), False),
    ("extractMatch", "deploy web", (r"^deploy (\w+)$",), "web"),
    ("extractMatch", "hello", (r"^deploy (\w+)$",), "hello"),
    ("extractMatch", "a", ("a|(b)",), ""),
    ("regex_findall", "a1 b22", (r"\d+",), ["1", "22"]),
    ("regex_findall", "a1 b22", (r"[a-z](\d+)",), ["1", "22"]),
    ("regex_findall", "a1 b22 c", (r"([a-z])(\d+)?",), [["a", "1"], ["b", "22"], ["c", ""]]),
    ("regex_findall", "né ü", (r"\pL+",), ["né", "ü"]),
    ("regex_replace", "a1 b22", (r"([a-z])(\d+)", r"\2\1"), "1a 22b"),
    ("regex_replace", "a1", (r"\d", r"[\0]\\"), "a[1]\\"),
    ("regex_replace", "a1", (r"\d", "$0"), "a$0"),
    ("regex_replace", "abc", ("x", "y"), "abc"),
    ("regex_replace", "né😀", ("", "-"), "-n-é-😀-"),
    ("regex_findall", "né", ("x*",), ["", "", ""]),
    # encodings
    ("tojson", None, (), "null"),
    ("tojson", {"b": [1, 2.5, "é"], "a": None}, (), '{"a":null,"b":[1,2.5,"é"]}'),
    ("tojson", NOW, (), '"2026-03-01T12:30:00Z"'),
    ("fromjson", '{"n": 12345678901234567890, "x": [1.5, null]}', (),
     {"n": 12345678901234567890, "x": [1.5, None]}),
    ("fromjson", None, (), None),
    ("fromjson", '["' + "[" * 300 + '\\""]', (), ["[" * 300 + '"']),
    ("b64encode", "é?>", (), "w6k/Pg=="),
    ("b64decode", "w6k/Pg==", (), "é?>"),
    ("b64decode", "w6k_\n Pg", (), "é?>"),
    ("b64decode", "w6k", (), "é"),
    ("sha256", "abc", (), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("hmac_sha256", "what do ya want for nothing?", ("Jefe",),
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ("shellquote", "a b'c", (), "'a b'\"'\"'c'"),
    ("shellquote", None, (), "''"),
    ("shellquote", {"a": 1}, (), """'{"a":1}'"""),
    ("urlencode", "a b/é", (), "a+b%2F%C3%A9"),
    ("urlencode", 12, (), "12"),
    ("iriencode", "a b/é", (), "a+b/%C3%A9"),
    ("quote_slack", "<@U1> & co", (), "&lt;@U1&gt; &amp; co"),
    ("quote_md", "*a*", (), r"\*a\*"),
    ("escape", "<b>", (), "&lt;b&gt;"),
    ("escapejs", "a'b", (), "a\\u0027b"),
    ("striptags", "<b>a</b>", (), "a"),
    ("removetags", "<b>a</b><i>c</i>", ("b",), "a<i>c</i>"),
    ("linebreaks", "a\nb", (), "<p>a<br />b</p>"),
    ("linebreaksbr", "a\nb", (), "a<br />b"),
    ("truncatechars_html", "<b>abcdefgh</b>", (6,), "<b>abc...</b>"),
    ("truncatewords_html", "<b>one two three</b>", (1,), "<b>one ...</b>"),
    ("urlize", "see http://a.com now", (), 'see <a href="http://a.com" rel="nofollow">http://a.com</a> now'),
    # times
    ("date", NOW, ("%Y-%m-%d %H:%M",), "2026-03-01 12:30"),
    ("date", NOW, ("%F %T %Z %z %:z", "Europe/Berlin"), "2026-03-01 13:30:00 CET +0100 +01:00"),
    ("date", NOW.replace(month=7), ("%H:%M %Z", "Europe/Berlin"), "14:30 CEST"),
    ("date", NOW, ("%-d.%-m.%y %a %A %b %B %j %I %p %u %w %G-W%V %e %%", "UTC"),
     "1.3.26 Sun Sunday Mar March 060 12 PM 7 0 2026-W09  1 %"),
    ("date", NOW, ("%s",), "1772368200"),
    ("date", "2026-03-01T12:30:00+02:00", ("%H:%M %z",), "12:30 +0200"),
    ("date", "2026-03-01T12:30:00+02:00", ("%H:%M", "UTC"), "10:30"),
    ("date", 1772368200, ("%F %R",), "2026-03-01 12:30"),
    ("date", NOW, ("%H:%M", "-05:30"), "07:00"),
    ("time", NOW, ("%H:%M",), "12:30"),
    ("parse_date", "2026-03-01T12:30:00Z", (), NOW),
    ("parse_date", "2026-03-01T13:30:00.25+01:00", (), NOW.replace(microsecond=250_000)),
    ("parse_date", 1772368200, (), NOW),
    ("parse_date", NOW, (), NOW),
    ("parse_date", "01/Mar/2026 13:30", ("%d/%b/%Y %H:%M", "Europe/Berlin"), NOW),
    ("parse_date", "2026-07-01 14:30", ("%F %R", "Europe/Berlin"), NOW.replace(month=7)),
    ("parse_date", "2026-03-01 14:30 +0200", ("%F %R %z", "Europe/Berlin"), NOW),
    ("parse_date", "Sunday,  March 1 2026 12:30:00 pm", ("%A, %B %d %Y %I:%M:%S %p",), NOW),
    ("parse_date", "2026-03", ("%Y-%m",), datetime(2026, 3, 1, tzinfo=UTC)),
    ("parse_date", "2026060", ("%Y%j",), datetime(2026, 3, 1, tzinfo=UTC)),
    ("parse_date", "1772368200", ("%s",), NOW),
    ("parse_date", "12.30", ("%y.%f",), datetime(2012, 1, 1, 0, 0, 0, 300_000, tzinfo=UTC)),
    ("duration", "1h30m", (), 5400),
    ("duration", "1500ms", (), 1.5),
    ("duration", 90, (), 90),
    ("matchesCron", NOW, ("30 12 * * *",), True),
    ("matchesCron", "2026-03-01T12:31:00Z", ("30 12 * * *",), False),
    ("matchesCron", None, ("30 12 * * *",), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "arguments", "expected"), RESULTS)
def test_results(name, value, arguments, expected):
    result = apply(name, value, *arguments)
    assert result == expected
    assert type(result) is type(expected)


def test_every_filter_has_a_result_here_or_its_own_test():
    assert set(FILTERS) - {name for name, *_ in RESULTS} == {"random", "table", "urlizetrunc"}


def test_a_time_that_is_read_keeps_its_offset():
    at = apply("parse_date", "2026-03-01T13:30:00+01:00")
    assert at.utcoffset() == timedelta(hours=1)


ARGUMENTS = {
    "center": (3,),
    "date": ("%Y",),
    "time": ("%Y",),
    "matchesCron": ("* * * * *",),
    "regex_replace": ("a", "b"),
    "replace": ("a", "b"),
    "slice": ("1:",),
    "stringformat": ("%v",),
}
COUNTS = {"center", "ljust", "rjust", "index", "length_is", "divisibleby", "get_digit", "wordwrap"}


def arguments(name):
    """Return fitting arguments."""
    known = FILTERS[name]
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    if name in COUNTS or name.startswith("truncate") or name == "urlizetrunc":
        return (3,)
    return ("1",) * known.least


NOT_NULL = {
    "add": "1",
    "default": "1",
    "default_if_none": "1",
    "divisibleby": False,
    "endswith": False,
    "length": 0,
    "length_is": False,
    "match": False,
    "matchesCron": False,
    "shellquote": "''",
    "startswith": False,
    "string": "",
    "stringformat": "<nil>",
    "sum": 0,
    "tojson": "null",
    "wordcount": 0,
    "yesno": "maybe",
}


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_null_stays_null_except_where_it_is_counted_tested_or_replaced(name):
    assert apply(name, None, *arguments(name)) == NOT_NULL.get(name)


FAULTS = [
    ("sum", [1, 2, "x"], (), "`sum` needs a list of numbers, and got the text 'x' at index 2"),
    ("sum", [1, None], (), "`sum` needs a list of numbers, and got null at index 1"),
    ("sum", [True], (), "`sum` needs a list of numbers, and got true at index 0"),
    ("sum", "12", (), "`sum` needs a list, and got the text '12'"),
    ("sum", [1e308, 1e308], (), "`sum` gives a number that is too large"),
    ("max", [1, "a"], (), "`max` needs values of one kind, and got the number 1 at index 0 and the text 'a' at index 1"),
    ("min", [None], (), "`min` needs numbers, texts or times, and got null at index 0"),
    ("sort", [1, "a"], (), "`sort` needs values of one kind, and got the number 1 at index 0 and the text 'a' at index 1"),
    ("sort", NODES, ("cpu",), "`sort` needs numbers, texts or times, and got null at index 2"),
    ("sort", [[1]], (), "`sort` needs numbers, texts or times, and got a list of 1 at index 0"),
    ("sort", {"a": 1}, (), "`sort` needs a list, and got a map"),
    ("sort", [1], (True,), "`sort` needs a path such as 'labels.env', and got true"),
    ("map", [1], ({},), "`map` needs a path such as 'labels.env', and got a map"),
    ("upper", ["a"], (), "`upper` needs a text, number, boolean or time, and got a list of 1"),
    ("replace", "a", ("", "b"), "`replace` needs a text to look for that is not empty"),
    ("replace", "a", (1, "b"), "`replace` needs a text to look for, and got the number 1"),
    ("startswith", "a", (1,), "`startswith` needs a text as its argument, and got the number 1"),
    ("center", "a", ("x",), "`center` needs an integer of at least 0 as its argument, and got the text 'x'"),
    ("truncatechars", "a", (-1,), "`truncatechars` needs an integer of at least 0 as its argument, and got the number -1"),
    ("length", 3, (), "`length` needs a list, a text or a map, and got the number 3"),
    ("first", {"a": 1}, (), "`first` needs a list or a text, and got a map"),
    ("index", [1], (0.5,), "`index` needs an integer as its argument, and got the number 0.5"),
    ("slice", [1], ("a:b",), "`slice` needs positions such as '1:3', ':3' or '-3:' as its argument, and got the text 'a:b'"),
    ("keys", [1], (), "`keys` needs a map, and got a list of 1"),
    ("key", "a", ("b",), "`key` needs a map, and got the text 'a'"),
    ("integer", "abc", (), "`integer` needs a number, or a text that is one, and got the text 'abc'"),
    ("integer", "1_0", (), "`integer` needs a number, or a text that is one, and got the text '1_0'"),
    ("integer", "nan", (), "`integer` needs a number, or a text that is one, and got the text 'nan'"),
    ("integer", True, (), "`integer` needs a number, or a text that is one, and got true"),
    ("float", 10**400, (), "`float` needs a number that fits into 64 bits, and got the number 1000000000000000000000000000000000000000"),
    ("round", "1.5", (), "`round` needs a number, and got the text '1.5'"),
    ("round", 1.5, (301,), "`round` needs at most 300 decimals, and got the number 301"),
    ("divisibleby", 4, (0,), "`divisibleby` cannot divide by 0"),
    ("pluralize", 1, ("a,b,c",), "`pluralize` needs endings such as 's' or 'y,ies' as its argument, and got the text 'a,b,c'"),
    ("select", [1], ("", "like", 1), "`select` needs one of the tests eq, ne, lt, le, gt, ge, in, match, and got the text 'like'"),
    ("select", NODES, ("name", "lt", 1), "`select` cannot order a text and a number; convert one with |float, |integer or |string"),
    ("reject", NODES, ("cpu", "gt", None), "`reject` cannot order a number and null; give the missing value one with |default(...)"),
    ("select", NODES, ("name", "in", 1), "`select` needs a list, text or map for its test `in`, and got the number 1"),
    ("select", NODES, ("name", "match", "("), "`select` got '(', which is not a regular expression: missing ): ("),
    ("match", "a", ("(",), "`match` got '(', which is not a regular expression: missing ): ("),
    ("match", "a", (1,), "`match` needs a regular expression in a text as its argument, and got the number 1"),
    ("regex_replace", "a", ("a", r"\1"), "`regex_replace` got \\1 in its replacement, and the regular expression has 0 groups"),
    ("b64decode", "a?", (), "`b64decode` got 'a?', which is not Base64"),
    ("b64decode", "abcde", (), "`b64decode` got 'abcde', which is not Base64"),
    ("b64decode", "/w==", (), "`b64decode` got '/w==', which is not a text in UTF-8"),
    ("fromjson", "{", (), None),
    ("fromjson", "[NaN]", (), "`fromjson` got NaN, which is not JSON"),
    ("fromjson", "1e999", (), "`fromjson` got the number 1e999, which is too large"),
    ("fromjson", "9" * 1001, (), "`fromjson` got an integer of more than 1000 digits"),
    ("fromjson", "[" * 300, (), "`fromjson` got JSON nested deeper than 256 levels"),
    ("fromjson", [1], (), "`fromjson` needs a text, and got a list of 1"),
    ("hmac_sha256", "a", (1,), "`hmac_sha256` needs a text as its key, and got the number 1"),
    ("date", "yesterday", ("%F",), "`date` needs a time, a text such as '2026-03-01T12:30:00Z' or a number of seconds since 1970, and got the text 'yesterday'"),
    ("date", NOW, ("%F", "Mars/Base"), "`date` got 'Mars/Base', which is not a time zone that this computer knows; write one such as Europe/Berlin, UTC or +02:00"),
    ("date", NOW, ("%F", "localtime"), None),
    ("date", NOW, ("%F", "../UTC"), None),
    ("date", NOW, ("%F", "Europe"), None),
    ("date", NOW, ("%F", "+99:00"), None),
    ("date", NOW, ("%Q",), None),
    ("date", NOW, ("50%",), None),
    ("date", datetime(9999, 12, 31, 23, tzinfo=UTC), ("%F", "+02:00"), None),
    ("date", 1e18, ("%F",), None),
    ("parse_date", "2026-02-30T00:00:00Z", (), None),
    ("parse_date", "2026-02-30", ("%F",), None),
    ("parse_date", "2026-03-01 x", ("%F",), "`parse_date` cannot read '2026-03-01 x' as '%F': it found ' x' after the end of the layout"),
    ("parse_date", "x", ("%Y",), "`parse_date` cannot read 'x' as '%Y': it found 'x' instead of %Y"),
    ("parse_date", "2026/03", ("%Y-%m",), "`parse_date` cannot read '2026/03' as '%Y-%m': it found '/03' instead of '-'"),
    ("parse_date", "12:30", ("%H:%M",), None),
    ("parse_date", "2025366", ("%Y%j",), None),
    ("parse_date", "2026 13", ("%Y %I",), None),
    ("duration", "soon", (), "`duration` got a wrong text: 'soon' is not a duration; write it as 30s, 5m, 1h30m or 2d"),
    ("matchesCron", NOW, ("* *",), None),
    ("table", [1], (), "`table` needs a list of maps, or columns, and got the number 1 at index 0"),
    ("table", [], ("name",), "`table` needs a list of columns such as ['name', 'labels.env'], and got the text 'name'"),
    ("table", [], ([],), "`table` needs at least one column"),
    ("shellquote", "a\0", (), None),
    ("yesno", True, ("a",), None),
    ("urlize", "a", ("x",), "`urlize` needs true or false as its argument, and got the text 'x'"),
    ("round", float("inf"), (), "the result is too large for a number"),
    ("integer", float("nan"), (), "the result is too large for a number"),
    ("length_is", [], (float("nan"),), "`length_is` needs an integer as its argument, and got the number nan"),
    ("float", "1" * 400, (), "`float` needs a number that fits into 64 bits, and got the text '" + "1" * 40 + "'..."),
    ("parse_date", "9999-12-31T23:59:59-12:00", (), "`parse_date` needs a time, a text such as '2026-03-01T12:30:00Z' or a number of seconds since 1970, and got the text '9999-12-31T23:59:59-12:00'"),
    ("parse_date", "0001-01-01", ("%Y-%m-%d", "Asia/Tokyo"), "`parse_date` cannot read '0001-01-01' as '%Y-%m-%d': it found a time that is before year 1 or after year 9999 in UTC"),
    ("date", "0001-01-01T00:00:00+14:00", ("%F",), None),
    ("add", 10**400, (0.5,), "`add` got an integer that is too large for a float"),
    ("add", 10**999, (10**1000,), "the result is too large for a number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "arguments", "message"), FAULTS)
def test_faults(name, value, arguments, message):
    with pytest.raises(TemplateRenderError) as raised:
        apply(name, value, *arguments)
    if message is not None:
        assert raised.value.message == message


def test_a_fault_of_constant_arguments_is_found_without_a_value():
    for name, given in (
        ("match", ("(",)),
        ("regex_findall", ("(",)),
        ("select", ("a", "like", 1)),
        ("select", ("a", "match", "(")),
        ("rejectattr", (True, 1)),
        ("center", ("wide",)),
        ("date", ("%Q",)),
        ("date", ("%F", "Mars")),
        ("parse_date", ("%H:%M",)),
        ("parse_date", ("%V",)),
        ("sort", (True,)),
        ("table", ([],)),
        ("yesno", ("a,b,c,d",)),
    ):
        with pytest.raises(TemplateRenderError):
            FILTERS[name].prepare(*given, limits=DEFAULT_LIMITS)


LIMITED = [
    ("replace", "aaaa", ("a", "bbbbbbbb"), {"value_length": 20}),
    ("regex_replace", "aaaa", ("a", "bbbbbbbb"), {"value_length": 20}),
    ("regex_findall", "aaaa", ("a",), {"list_length": 3}),
    ("center", "a", (21,), {"value_length": 20}),
    ("join", ["aaaaa"] * 5, ("",), {"value_length": 20}),
    ("split", "a,b,c,d", (",",), {"list_length": 3}),
    ("make_list", "abcd", (), {"list_length": 3}),
    ("add", [1, 2], ([3, 4],), {"list_length": 3}),
    ("add", "a" * 15, ("a" * 15,), {"value_length": 20}),
    ("flatten", [[1, 2], [3, 4]], (), {"list_length": 3}),
    ("map", [1] * 4, ("a",), {"list_length": 3}),
    ("unique", [1] * 4, (), {"list_length": 3}),
    ("keys", dict.fromkeys("abcd"), (), {"list_length": 3}),
    ("fromjson", "[1,2,3,4]", (), {"list_length": 3}),
    ("b64encode", "a" * 20, (), {"value_length": 20}),
    ("table", [{"a": "a" * 9}] * 2, (), {"value_length": 20}),
    ("tojson", ["a" * 20], (), {"value_length": 20}),
    ("date", NOW, ("%A" * 9,), {"value_length": 20}),
    ("match", "a", ("a" * 11,), {"regexp_length": 10}),
    ("sort", list(range(2000)), (), {"steps": 2500}),
    ("fromjson", "[" + "{}," * 99 + "{}]", (), {"steps": 100}),
    ("striptags", "<b>" * 100, (), {"steps": 50}),
    ("urlencode", "é" * 4, (), {"value_length": 20}),
    ("iriencode", "é" * 4, (), {"value_length": 20}),
]


@pytest.mark.parametrize(("name", "value", "arguments", "limits"), LIMITED)
def test_limits(name, value, arguments, limits):
    apply(name, value, *arguments)
    with pytest.raises(TemplateLimitError):
        apply(name, value, *arguments, **limits)


def test_long_texts_are_quoted_and_refused_in_time():
    for name, text in (("quote_md", "*" * 2_000_000), ("urlencode", "\N{EURO SIGN}" * 1_000_000)):
        begin = perf_counter()
        with pytest.raises(TemplateLimitError):
            apply(name, text)
        assert perf_counter() - begin < 1.5


def test_an_integer_in_a_text_keeps_all_its_digits():
    assert apply("integer", "1" * 1_000) == int("1" * 1_000)


def test_values_that_share_their_parts_do_not_make_endless_work():
    shared = ["x" * 1000]
    for _ in range(30):
        shared = [shared, shared]
    for name in ("unique", "flatten", "string", "tojson", "join", "shellquote", "sha256"):
        with pytest.raises(TemplateLimitError):
            apply(name, shared)
    with pytest.raises(TemplateLimitError):
        apply("table", [{"a": shared}])


def test_random_items_come_from_the_runtime():
    assert apply("random", [1, 2, 3]) in (1, 2, 3)
    assert apply("random", list(range(100))) == apply("random", list(range(100)))
    assert apply("random", "a") == "a"
    assert apply("random", []) is None


def test_a_long_address_is_cut():
    linked = apply("urlizetrunc", "see http://example.com/long now", 12)
    assert linked.endswith(">http://ex...</a> now")


def test_a_table_has_the_columns_that_are_given():
    assert apply("table", NODES, ["name", "labels.env", "cpu"]) == (
        "name  labels.env   cpu\n"
        "----  ----------  ----\n"
        "b     prod          90\n"
        "a     test        12.5\n"
        "c     prod"
    )


def test_a_table_has_all_keys_of_the_maps_as_columns_unless_given():
    rows = [{"b": "one\ntwo", "a": None}, {"c": "漢字", "a": 1}]
    assert apply("table", rows) == ("a  b        c\n-  -------  ----\n   one two\n1           漢字")


def test_a_table_of_lists_has_indexes_as_columns():
    assert apply("table", [["x", 1], ["yy", 22]], ["0", "1"]) == "0    1\n--  --\nx    1\nyy  22"


def test_texts_that_are_not_unicode_are_repaired_where_they_are_encoded():
    for name in ("sha256", "b64encode", "urlencode", "shellquote", "escape", "quote_md"):
        assert apply(name, "a\ud800b").isprintable()
    assert apply("match", "\ud800", "^\ufffd$") is True


def test_times_are_compared_by_instant_and_not_by_zone():
    there = NOW.astimezone(timezone(timedelta(hours=2)))
    assert apply("unique", [NOW, there]) == [NOW]
    assert apply("max", [NOW, there + timedelta(seconds=1)]) > NOW


SCOPE = {
    "Event": {
        "Payload": {
            "events": [
                {"payload": {"body": {"alerts": [{"labels": {"instance": "a"}}, {"labels": {}}]}}},
                {"payload": {"body": {"alerts": [{"labels": {"instance": "a"}}]}}},
                {"payload": {}},
            ],
            "results": [
                {"state": "SUCCEEDED", "item": "a"},
                {"state": "FAILED", "item": "b"},
            ],
        }
    },
    "Execution": {"FailedSteps": []},
    "Previous": None,
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{{ Event.Payload.events|map('payload.body.alerts')|flatten|map('labels.instance')"
            "|unique }}",
            ["a", None],
        ),
        ("{{ Event.Payload.results|select('state', 'SUCCEEDED')|map('item') }}", ["a"]),
        ("{{ Execution.FailedSteps|length > 0 }}", False),
        ("{{ Previous.Payload.body.next|default('https://a.com') }}", "https://a.com"),
        ("{{ Event.Payload.missing|upper|trim }}", None),
        ("rm {{ Event.Payload.missing|shellquote }}", "rm ''"),
        ("{% for group in Event.Payload.results|groupby('state') %}{{ group.key }} {% endfor %}",
         "SUCCEEDED FAILED "),
        ("{{ [2.5, 2]|sum }} {{ 10|round }} {{ 'a,b'|split:','|last }}", "4.5 10 b"),
    ],
)  # fmt: skip
def test_filters_in_templates(source, expected):
    assert compile_typed(source).render(SCOPE, Runtime()) == expected


def test_a_fault_of_a_filter_has_its_place():
    with pytest.raises(TemplateRenderError) as raised:
        compile_typed("a\n {{ Event.Payload.results|sum }}").render(SCOPE, Runtime())
    assert raised.value.line == 2
    assert raised.value.message == "`sum` needs a list of numbers, and got a map at index 0"
    for source in ("{{ x|match('(') }}", "{{ x|date('%Q') }}", "{{ x|date('%F', 'Mars') }}"):
        with pytest.raises(TemplateSyntaxError) as refused:
            compile_typed(source)
        assert refused.value.line == 1
