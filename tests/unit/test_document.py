"""Documents: what is read from JSON and YAML, what is refused and where, and what is written."""

import tracemalloc
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteops.convert import read
from flyteops.document import Document, Position, parse_json, parse_yaml, to_yaml
from flyteops.errors import InputError
from flyteops.model import Flow


def fault(parse, data: bytes):
    with pytest.raises(InputError) as caught:
        parse(data)
    (problem,) = caught.value.problems
    return problem


# ------------------------------------------------------------------------------------------ YAML in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: y", {"x": "y"}),
        ('x: "y"', {"x": "y"}),
        ("y: n", {"y": "n"}),
        (
            "a: [true, True, yes, on, false, no, Off]",
            {"a": [True, True, True, True, False, False, False]},
        ),
        ("a: [null, ~, ]", {"a": [None, None]}),
        ("a:", {"a": None}),
        ("when: 2020-01-01", {"when": "2020-01-01"}),
        ("when: 2020-01-01T10:00:00Z", {"when": "2020-01-01T10:00:00Z"}),
        ("at: 12:30:45", {"at": "12:30:45"}),
        (
            "n: [1, -2, +3, 0x1f, 0b11, 0o17, 017, 1_000, 0]",
            {"n": [1, -2, 3, 31, 3, 15, 15, 1000, 0]},
        ),
        ("n: [1.5, 1e3, .5, -2.5e-1, 1.]", {"n": [1.5, 1000.0, 0.5, -0.25, 1.0]}),
        ("1: one\ntrue: yes", {"1": "one", "true": True}),
        ("a: !!str 12", {"a": "12"}),
        ('a: !!int "12"', {"a": 12}),
        (
            "base: &b {x: 1, y: 2}\nd: {<<: *b, y: 3}",
            {"base": {"x": 1, "y": 2}, "d": {"x": 1, "y": 3}},
        ),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("", None),
        ("\ufeffa: b", {"a": "b"}),
    ],
)
def test_yaml_is_read_with_the_types_of_json(text, value):
    assert parse_yaml(text.encode()).value == value


@pytest.mark.parametrize(
    ("text", "words", "line", "column"),
    [
        (b"a: 1\nb: 2\na: 3", "key 'a' is given twice", 3, 1),
        (b"a: {x: 1,\n    x: 2}", "key 'x' is given twice", 2, 5),
        (b"a: [1, 2", "did not find expected", 2, 1),
        (b"a: *nowhere", "has no anchor", 1, 4),
        (b"a: &x [*x]", "has no anchor", 1, 8),
        (b"a: .inf", "not a JSON number", 1, 4),
        (b"a: 1e999", "out of range", 1, 4),
        (b"a: b\n---\nc: d", "more than one document", 2, 1),
        (b"? [a]\n: b", "a key must be text", 1, 3),
        (b"!!python/object:os.system {}", "has no meaning here", 1, 1),
        (b"a: !custom x", "has no meaning here", 1, 4),
        (b"ok: 1\nbad: \xff", "0xff is not UTF-8", 2, 6),
        (b"[" * 300 + b"]" * 300, "nested deeper", 1, 257),
        (b"{<<: 5}", "takes a mapping", 1, 6),
    ],
)
def test_faulty_yaml_is_refused_with_its_place(text, words, line, column):
    problem = fault(parse_yaml, text)
    assert words in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_aliases_cannot_blow_up():
    rows = [b"a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    rows += [b"a%d: &a%d [%s]" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)]
    assert "more than 200000 values" in fault(parse_yaml, b"\n".join(rows)).message


def test_aliases_cannot_repeat_a_long_text_without_end():
    text = b'a: &a "' + b"x" * 100_000 + b'"\nb: [' + b",".join([b"*a"] * 300) + b"]"
    assert "more than 200000 values" in fault(parse_yaml, text).message


def test_aliases_cannot_nest_without_end():
    rows = [b"a0: &a0 [1]", *(b"a%d: &a%d [*a%d]" % (n, n, n - 1) for n in range(1, 400))]
    assert "nested deeper" in fault(parse_yaml, b"\n".join(rows)).message


# ------------------------------------------------------------------------------------------ JSON in


@pytest.mark.parametrize(
    ("text", "words", "line", "column"),
    [
        (b"", "empty", 1, 1),
        (b"   ", "empty", 1, 1),
        (b'{"a" 1}', "':' delimiter", 1, 6),
        (b'{"a":\n  x}', "expecting value", 2, 3),
        (b"[" * 300 + b"]" * 300, "nested deeper", None, None),
        (b"[" * 100_000, "nested deeper", None, None),
        (b"1e999", "out of range", 1, 1),
        (b'{"a": NaN}', "invalid character", None, None),
    ],
)
def test_faulty_json_is_refused_with_its_place(text, words, line, column):
    problem = fault(parse_json, text)
    assert words in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_brackets_in_json_text_do_not_count_as_nesting():
    text = "[" * 1000 + '"' + "{"
    assert parse_json(msgspec.json.encode({"a": text})).value == {"a": text}


def test_places_are_known_in_json_too():
    document = parse_json(b'{"steps": [\n  {"id": "a"},\n  {"id": "b"}\n]}')
    assert document.place(("steps", 1, "id")) == Position(3, 10)


@pytest.mark.parametrize(
    "data", [b"---\na: 1\n---\n", b"a: 1\n...\n", b"a: 1\n---\n# nothing\n---\n...\n"]
)
def test_empty_documents_behind_the_first_are_nothing(data: bytes) -> None:
    assert parse_yaml(data).value == {"a": 1}


def test_the_place_of_something_missing_is_where_it_should_be():
    document = parse_yaml(b"steps:\n  - id: a\n")
    assert document.place(("steps", 0, "command")) == Position(2, 5)


# ----------------------------------------------------------------------------------------- YAML out


def json_values():
    keys = st.text(max_size=8)
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
    )
    texts = st.text(max_size=30) | st.sampled_from(
        [
            "y",
            "on",
            "12",
            "1e3",
            "0x1f",
            "12:30",
            "2020-01-01",
            "~",
            "<<",
            "=",
            "- a",
            "a: b",
            "# c",
            "'",
            '"',
            " x ",
            "a\nb",
            "\t",
        ]
    )
    return st.recursive(
        scalars | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=15,
    )


@given(json_values())
def test_what_is_written_as_yaml_is_read_back_the_same(value):
    assert parse_yaml(to_yaml(value)).value == value


@pytest.mark.parametrize(
    "text",
    [
        "y",
        "Y",
        "n",
        "on",
        "off",
        "yes",
        "no",
        "12",
        "1.5",
        "1e3",
        "0o17",
        "0x1f",
        "1_000",
        "12:30",
        "~",
        "",
    ],
)
def test_text_that_looks_like_something_else_is_quoted(text):
    assert to_yaml({"k": text}) == f'k: "{text}"\n'.encode()


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parsers(data):
    for parse in (parse_json, parse_yaml):
        with suppress(InputError):
            parse(data)


# ------------------------------------------------------------------------------------ typed reading


def faults_of(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(parse_yaml(text.encode()), Flow)
    return [str(problem) for problem in caught.value.problems]


def test_every_fault_is_reported_at_once_with_path_and_place():
    text = """\
name: 5
steps:
  - event: {name: E, packName: P, packLabels: {env: 1}}
    command: {name: C}
  - nothing
"""
    assert faults_of(text) == [
        "name (line 1, column 7): must be text, not a number",
        "steps[0].event.packLabels.env (line 3, column 53): must be text, not a number",
        "steps[0].command (line 4, column 14): 'packName' is missing",
        "steps[1] (line 5, column 5): must be an object, not text",
    ]


@pytest.mark.parametrize("value", [None, 5, "text", True, [], 1.5])
def test_a_flow_must_be_an_object(value):
    with pytest.raises(InputError, match="expected"):
        read(Document(value), Flow)


def test_keys_are_matched_without_regard_to_case_unless_one_fits_exactly():
    flow = read(Document({"Name": "loud", "STEPS": [], "name": "exact"}), Flow)
    assert flow == Flow(name="exact")


def test_null_means_not_given():
    step = {
        "event": {"name": "E", "packName": "P", "packLabels": None},
        "command": {"name": "C", "packName": "P"},
        "id": None,
    }
    flow = read(Document({"name": "f", "description": None, "steps": [step]}), Flow)
    assert flow.steps[0].id == ""
    assert flow.steps[0].event.pack_labels is None


def test_unknown_keys_are_ignored():
    assert read(Document({"name": "f", "owner": {"team": 5}}), Flow) == Flow(name="f")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200 + b"1" + b",1" * 20_000 + b"]" * 200,
        b"".join(b" " * depth + b"k: \n" for depth in range(250))
        + b" " * 250
        + b"k: ["
        + b"1, " * 20_000
        + b"1]\n",
    ],
)
def test_places_take_memory_in_proportion_however_deep_they_are(text):
    tracemalloc.start()
    document = parse_yaml(text)
    assert document.place(()) is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 1_500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\ud83d \ud83d"', "\\ud83d \ufffd"),
        (rb'{"\uD800": [1]}', {"\ufffd": [1]}),
    ],
)
def test_half_a_surrogate_pair_in_json_is_the_replacement_character(text, value):
    assert parse_json(text).value == value


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a: {cron: */5 * * * *}", (1, 12), "put text that begins with * in quotes"),
        ("a:\n\t- b", (2, 1), "indent with spaces, not tabs"),
        ("a: @daily", (1, 4), "put text that begins with @"),
        ("a: {{ Event.Payload.x }}", (1, 5), "put templates {{ ... }} in quotes"),
        ("a: b: c", (1, 5), "put text that holds ': ' in quotes"),
        ("a: 1\nb: '1\nc: 2", (2, 4), "the quote that begins here has no end"),
        ('a: "1\\d"', (1, 6), "write a backslash as"),
        ("a: 1\nb: ü\x1b", (2, 5), "control characters are not allowed"),
    ],
)
def test_what_yaml_cannot_read_comes_with_its_place_and_a_way_out(text, place, hint):
    with pytest.raises(InputError, match=hint.replace("*", r"\*").replace("{", r"\{")) as caught:
        parse_yaml(text.encode())
    (problem,) = caught.value.problems
    assert place is None or (problem.line, problem.column) == place
