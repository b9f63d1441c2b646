"""Whatever a flow of edition 2 looks like, the reader accepts it or says where it is wrong."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteops.document import Document, parse_yaml
from flyteops.errors import InputError
from flyteops.flow.edition2 import lint_definition, read_definition
from flyteops.flow.schema import flow_schema

FLOWS = [
    parse_yaml(file.read_bytes()).value
    for file in sorted((Path(__file__).parents[1] / "data" / "flow").glob("*.yaml"))
]
SCHEMA = jsonschema_rs.Draft202012Validator(flow_schema(2))

words = st.sampled_from(
    [
        "", "a", "request", "roll-out", "Flyte", "Shell", "Chat", "any", "settled", "event", "name",
        "resultOf", "correlate", "FAILED", "lost", "30s", "1x", "{{", "{{ Event.Payload }}",
    ]
)  # fmt: skip
keys = (
    st.sampled_from(
        sorted(
            {key for flow in FLOWS for key in flow}
            | {key for flow in FLOWS for step in flow["steps"] for key in step}
        )
    )
    | words
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """All paths in a value."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from places(item, (*path, key))


def changed(value, path, change):
    """A copy of a value with a change at a path; `change` gets the parent's copy and the key."""
    if not path:
        return value
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        change(copy, path[0])
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], change)
    return copy


@st.composite
def mutants(draw):
    """A valid flow with a few keys and values deleted, replaced, renamed or moved."""
    flow = draw(st.sampled_from(FLOWS))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(places(flow))))
        kind = draw(st.sampled_from(["delete", "replace", "rename", "copy"]))
        if kind == "delete":
            flow = changed(flow, path, lambda parent, key: parent.pop(key))
        elif kind == "rename":
            name = draw(keys)
            flow = changed(flow, path, lambda parent, key, name=name: rename(parent, key, name))
        else:
            other = (
                draw(values)
                if kind == "replace"
                else at(flow, draw(st.sampled_from(list(places(flow)))))
            )
            flow = (
                changed(flow, path, lambda parent, key, other=other: parent.__setitem__(key, other))
                if path
                else other
            )
        if not isinstance(flow, dict | list):
            break
    return flow


def rename(parent, key, name):
    if isinstance(parent, dict):
        parent[name] = parent.pop(key)


def at(value, path):
    for key in path:
        value = value[key]
    return value


def problems_in(document):
    """The problems of a flow, None if it is read."""
    try:
        read_definition(document)
    except InputError as error:
        return error.problems
    return None


@pytest.mark.property
@settings(deadline=None)
@given(mutants())
def test_a_flow_is_read_or_refused_with_places(flow):
    document = parse_yaml(json.dumps(flow, indent=1).encode())
    problems = problems_in(document)
    if problems is None:
        assert SCHEMA.is_valid(document.value), "the schema refuses a flow that the reader accepts"
        problems = lint_definition(document, read_definition(document))
    else:
        assert problems
    assert all(each.line is not None and each.column is not None for each in problems)


@settings(deadline=None)
@given(mutants())
def test_a_flow_without_text_is_refused_alike(flow):
    assert problems_in(Document(flow)) != ()
