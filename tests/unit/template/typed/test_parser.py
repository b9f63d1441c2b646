"""Expressions that cannot be understood are refused with the place and the way out."""

import pytest

from flyteops.errors import TemplateSyntaxError
from tests.typed import failure, value

MULTILINE = "a\n{{ Event.Payload\n   .x\n  ? }}"


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        ("{{ }}", (1, 1), "an expression is expected between '{{' and '}}'"),
        ("{{ 1 + }}", (1, 8), "a value is expected, not '}}'"),
        ("{{ 1 2 }}", (1, 6), "an operator or '}}' is expected, not '2'"),
        ("{{ a b }}", (1, 6), "an operator or '}}' is expected, not 'b'"),
        ("{{ a 'b' }}", (1, 6), "an operator or '}}' is expected, not the text 'b'"),
        ("{{ and }}", (1, 4), "a value is expected, not 'and'"),
        ("{{ a == not b }}", (1, 9), "a value is expected, not 'not'"),
        ("{{ a = b }}", (1, 6), "'=' does not compare; write '=='"),
        ("{{ a && b }}", (1, 6), "'&&' is not an operator; write 'and'"),
        ("{{ a || b }}", (1, 6), "'||' is not an operator; write 'or'"),
        ("{{ !a }}", (1, 4), "'!' is not an operator; write 'not'"),
        ("{{ a <> b }}", (1, 6), "'<>' is not an operator; write '!='"),
        ("{{ a ? b }}", (1, 6), "write 'a if condition else b'"),
        ("{{ a ^ b }}", (1, 6), "'^' is not an operator"),
        ("{{ a ** b }}", (1, 6), "'**' is not an operator"),
        ("{{ a if b }}", (1, 11), "'else' is missing: write 'a if condition else b'"),
        ("{{ a not b }}", (1, 10), "'in' is missing after 'not'"),
        ("{{ a is b }}", (1, 9), "write 'is defined' or 'is not defined'"),
        ("{{ a is none }}", (1, 9), "'==' compares"),
        ("{{ 1 is defined }}", (1, 6), "only a path, such as Event.Payload.id, can be defined"),
        ("{{ a + b is defined }}", (1, 10), "only a path"),
        ("{{ a == b is defined }}", (1, 11), "put parentheses around the comparison with 'is'"),
        ("{{ a is defined == b }}", (1, 6), "put parentheses around the comparison with 'is'"),
        ("{{ (1 }}", (1, 7), "'(' is not closed: ')' is expected, not '}}'"),
        ("{{ (\n1 }}", (2, 3), "'(' is not closed (line 1): ')' is expected"),
        ("{{ [1 2] }}", (1, 7), "',' or ']' is expected in a list, not '2'"),
        ("{{ {1} }}", (1, 6), "':' is expected after the key of a map, not '}'"),
        ("{{ {'a': 1 'b'} }}", (1, 12), "',' or '}' is expected in a map"),
        ("{{ {'a': 1", (1, 4), "'{' is not closed; end the map with '}'"),
        ("{{ a. }}", (1, 7), "a name or an index comes after '.'"),
        ("{{ a.'b' }}", (1, 6), "a name or an index comes after '.', not the text 'b'"),
        ("{{ a[1 }}", (1, 8), "']' is expected after a key or an index"),
        ("{{ a[] }}", (1, 6), "a value is expected, not ']'"),
        ("{{ a[1.5] }}", (1, 6), "a key is a text and an index is an integer"),
        ("{{ a[null] }}", (1, 6), "a key is a text and an index is an integer"),
        ("{{ a.b(1) }}", (1, 7), "only functions can be called"),
        ("{{ 5x }}", (1, 4), "this is not a number; read a key that begins with a digit as"),
        ("{{ a.5x }}", (1, 6), "this is not a number"),
        ("{{ 'a }}", (1, 4), "the text is not closed; end it with '"),
        ('{{ "a }}', (1, 4), 'the text is not closed; end it with "'),
        ("{{ é }}", (1, 4), "the character 'é' has no meaning here"),
        ("{{ a|1 }}", (1, 6), "the name of a filter comes after '|', not '1'"),
        ("{{ a|uper }}", (1, 6), "the filter 'uper' is unknown; did you mean 'upper'?"),
        ("{{ a|xyzzyx }}", (1, 6), "the filter 'xyzzyx' is unknown"),
        ("{{ a|default }}", (1, 6), "the filter 'default' takes 1 argument, not 0"),
        ("{{ a|upper:1 }}", (1, 6), "the filter 'upper' takes no arguments, not 1"),
        ("{{ a|replace('b') }}", (1, 6), "the filter 'replace' takes 2 arguments, not 1"),
        ("{{ a|default: }}", (1, 15), "a value is expected, not '}}'"),
        ("{{ a|match:'(' }}", (1, 6), "not a regular expression"),
        ("{{ rnge(3) }}", (1, 4), "the function 'rnge' is unknown; did you mean 'range'?"),
        ("{{ datstore('k') }}", (1, 4), "did you mean 'datastore'?"),
        ("{{ now(1) }}", (1, 4), "the function 'now' takes no arguments, not 1"),
        ("{{ range(1, 2) }}", (1, 4), "the function 'range' takes 1 argument, not 2"),
        ("{{ datastore() }}", (1, 4), "the function 'datastore' takes 1 argument, not 0"),
        ("{{ datastore(5) }}", (1, 4), "the key of a datastore item is a text"),
        ("{{ range(3 }}", (1, 12), "',' or ')' is expected after an argument"),
        (MULTILINE.replace("?", "+"), (4, 5), "a value is expected"),
        (MULTILINE.replace("?", "|nope"), (4, 4), "the filter 'nope' is unknown"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(source, place, message):
    error = failure(source)
    assert isinstance(error, TemplateSyntaxError)
    assert message in error.message
    assert (error.line, error.column) == place


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("a\n{{ 1 +\n  'b' }}", (2, 6)),
        ("a\n{{ 1\n  + 'b' }}", (3, 3)),
        ("{% set x =\n\n 1 < 'a' %}", (3, 4)),
        ("\n\n{{ [1, n.x] }}", (3, 8)),
        ("{{ 'a'\n |upper\n |replace(1, 2) }}", (3, 3)),
        ("{% for i in [1] %}\n{{ i.x }}{% endfor %}", (2, 4)),
    ],
)
def test_an_error_of_rendering_has_its_place_in_several_lines(source, place):
    error = failure(source, {"n": 1})
    assert (error.line, error.column) == place


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ Evnt.Payload }}", "the name 'Evnt' is unknown here; did you mean 'Event'?"),
        ("{{ event.Payload }}", "the name 'event' is unknown here; did you mean 'Event'?"),
        ("{{ nulll }}", "the name 'nulll' is unknown here; did you mean 'null'?"),
        ("{{ Event.roll-back }}", 'is unknown here; a key with a hyphen is read as x["a-b"]'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(source, message):
    assert message in failure(source, {"Event": {"roll": 1}, "Context": {}}).message


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('nul|default:"x"', "x"),
        ('nul|default("x")', "x"),
        ("nul|default:other.k|upper", "V"),
        ("nul|default(1 + 1)", 2),
        ("nul|default:-1", -1),
        ("-nul|default:1", -1),
        ("-5|abs", 5),
        ("1 + nul|default:2 * 3", 7),
        ("'a,b'|split:','|length + 1", 3),
        ("'abc'|replace('b', 'x',)|upper", "AXC"),
        ("not nul|default:true", False),
        ("[1, 2]|last == 2", True),
        ("other|default:0 is defined", None),
    ],
)
def test_filters_bind_tighter_than_operators(expression, wanted):
    if wanted is None:
        assert "only a path" in failure("{{ " + expression + " }}").message
    else:
        assert value(expression, nul=None, other={"k": "v"}) == wanted
