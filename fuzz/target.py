"""The targets of fuzzing: a part of the server, its inputs, and its allowed results.

Any other behaviour is a finding.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from flyteops.engine.compiled import CompiledFlow, FlowIndex, compile_flow
from flyteops.engine.context import EvaluationContext
from flyteops.engine.evaluation import evaluate, evaluate_result
from flyteops.errors import InputError
from flyteops.flow import file
from flyteops.model import ActionSnapshot, ActionState, Event, Flow, FlowVersion, PackRef, Sibling
from flyteops.template.template import LANGUAGE
from flyteops.web.auth.policy import METHODS
from flyteops.web.auth.policyfile import read_policy
from fuzz import sample
from fuzz.mutation import mutated, reshaped
from tests.property import test_template_property as language

NOW = datetime(2026, 11, 23, tzinfo=UTC)

Check = Callable[[Any], str]
"""Takes an input; returns in a word how far it came, raises on a fault."""


class Target(NamedTuple):
    """A target, its share of a hundred inputs, its inputs, and the opener for some of them."""

    name: str
    share: int
    inputs: st.SearchStrategy[Any]
    opened: Callable[[], AbstractContextManager[Check]]


def opening(check: Check) -> Callable[[], AbstractContextManager[Check]]:
    """Return the opener of a target that keeps no state."""

    @contextmanager
    def opened() -> Iterator[Check]:
        yield check

    return opened


# -------------------------------------------------------------------------------------------- flows

PAYLOADS = (None, "deploy web", {"version": "1.2.3", "user": {"name": "x"}, "list": [1, 2]})


def check_flow(data: bytes) -> str:
    """Read a flow file as the server does, and evaluate its steps for their events."""
    try:
        document = file.parse(data, is_yaml=True)
        flow = file.read_flow(document)
    except InputError as error:
        assert error.problems
        return "refused"
    msgspec.json.encode(file.lint(document, flow))
    prepared = compile_flow(FlowVersion(uuid="u", flow=flow, saved_at=NOW))
    for payload in PAYLOADS:
        _decide(flow, prepared, payload)
    return "evaluated"


def _decide(flow: Flow, prepared: CompiledFlow, payload: Any) -> None:
    for step in flow.steps[:5]:
        pack = PackRef(step.event.pack_name, step.event.pack_name)
        event = Event(
            event_id="e",
            name=step.event.name,
            pack=pack,
            payload=msgspec.json.encode(payload),
            received_at=NOW,
        )
        outcome = evaluate(event, FlowIndex([prepared]), _context())
        msgspec.json.encode(outcome.decisions)
        msgspec.json.encode(outcome.actions)
        outcome = evaluate_result(event, FlowIndex(), prepared, _progress(flow), _context())
        msgspec.json.encode(outcome.decisions)
        msgspec.json.encode(outcome.actions)


def _context() -> EvaluationContext:
    return EvaluationContext(
        now=NOW, seed=b"s", datastore={"k": {"x": 1}}.__getitem__, monotonic=time.monotonic
    )


def _progress(flow: Flow) -> ActionSnapshot:
    return ActionSnapshot(
        action_id="a",
        name="C",
        pack_name="P",
        pack_labels={},
        correlation_id="c",
        flow_name=flow.name,
        flow_uuid="u",
        step_id="before",
        context={},
        state=ActionState.PENDING,
        siblings=(Sibling("before", 99, ActionState.SUCCESS),),
    )


FLOW_WORDS = (
    b"name: f\n",
    b"steps:\n",
    b"dependsOn: {all: [a]}",
    b"dependsOn: [a]",
    b"criteria: ",
    b"context: {a: b}",
    b"packLabels: {a: b}",
    b"timeout: 5m",
    b"retry: {attempts: 3}",
    b"onLost: retry",
    b"delay: 1s",
    b"schedule: '* * * * *'",
    b"input: {a: 1}",
    b"*a",
    b"&a ",
    b"<<: *a",
    b"!!str ",
    b"!!python/name:os.system ",
    b"| ",
    b"> ",
    b"---\n",
    b"? ",
    b"null",
    b"true",
    b"{{ Event.Payload }}",
    b"{% for x in Event.Payload.list %}",
    b"{% endfor %}",
    b"{{ secret('k') }}",
    b"{{ datastore('k') }}",
    b"\t",
    b"\n  ",
    b"...\n",
)

# ---------------------------------------------------------------------------------------- templates

TEMPLATE_WORDS = tuple(fragment.encode() for fragment in [*language.FRAGMENTS, *LANGUAGE.filters])


def check_template(source: str) -> str:
    """Compile and render: errors have their place, and results are the same twice."""
    compiled = language.compiled(source)
    if compiled is None:
        return "refused"
    result = language.outcome(compiled)
    assert language.outcome(compiled) == result
    return "stopped" if result.startswith("Template") else "rendered"


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape").encode(errors="replace").decode()


# ----------------------------------------------------------------------------------------- policies

POLICY_WORDS = (
    b"- path: /v1",
    b"path: ",
    b"methods: [GET]",
    b"claims: {a: [b]}",
    b"/*",
    b"/:a",
    b"/**",
    b":a",
    b"*",
    b"//",
    b"[':a']",
    b"true",
    b"1.5",
    b"null",
    b"GET",
    b"BREW",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"- ",
    b"\n",
    b"/v1/:a/*/b/*/c/*/d/*",
)

PATHS = ("/", "/v1", "/v1/packs/P/events", "/v1/%2f/..", "/" + "a/" * 200, "//", "/v1/flows/\x00")
CLAIMS: tuple[dict[str, Any], ...] = (
    {},
    {"groups": ["ops"]},
    {"a": True, "pack": "P"},
    {"a": [1, None, {"b": []}], "groups": 1.5},
)


def check_policy(data: bytes) -> str:
    """Read a policy file and query it; every match must be an entry of the file."""
    try:
        policy = read_policy(data)
    except InputError as error:
        assert error.problems
        return "refused"
    for path in PATHS:
        for method in sorted(METHODS)[:3]:
            match = policy.find(method, path)
            if match is not None and not match.is_open:
                assert not match.is_satisfied_by({})
                for claims in CLAIMS:
                    match.is_satisfied_by(claims)
    return "decided"


def both(texts: list[bytes], words: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return YAML with changes in its text, or in its values."""
    return mutated(texts, words) | reshaped(sample.values(texts))


ROOMS = (
    Target("flow", 20, both(sample.flows(), FLOW_WORDS), opening(check_flow)),
    Target(
        "template",
        25,
        mutated(sample.templates(), TEMPLATE_WORDS).map(_text) | language.TEMPLATES,
        opening(check_template),
    ),
    Target("policy", 15, both(sample.policies(), POLICY_WORDS), opening(check_policy)),
)
