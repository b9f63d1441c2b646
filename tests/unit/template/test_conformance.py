"""The language answers as the original engine does: cases with answers that were observed there,
and cases of our own.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flyteops import template
from flyteops.errors import TemplateAbort, TemplateError

DATA = Path(__file__).parents[1].parent / "data" / "template"


def load(name: str) -> list[Any]:
    content = json.loads((DATA / name).read_text("utf-8"))
    cases = []
    for case in content["cases"]:
        context = case.get("context", {})
        known = content["contexts"][context] if isinstance(context, str) else context
        cases.append(pytest.param(case | {"context": known}, id=case["id"]))
    return cases


def context_of(case: dict[str, Any]) -> dict[str, Any]:
    context = dict(case["context"])
    if "Event" in context:
        event = context["Event"]
        context["Event"] = template.event_value(
            name=event["Name"],
            payload=event["Payload"],
            pack_id=event["Pack"]["Id"],
            pack_name=event["Pack"]["Name"],
            pack_labels=event["Pack"]["Labels"],
            created_at=template.Time.parse(event["CreatedAt"]),
            received_at=template.Time.parse(event["ReceivedAt"]),
        )
    return context


def answer(case: dict[str, Any]) -> Any:
    runtime = template.Runtime(
        datastore=case.get("datastore", {}).__getitem__,
        random=lambda: Random(1),
        now=datetime(2024, 3, 4, 10, 15, tzinfo=UTC),
    )
    return template.resolve(case["template"], context_of(case), runtime)


def check(case: dict[str, Any]) -> None:
    if "expected" in case:
        assert answer(case) == case["expected"], case.get("reason")
        return
    with pytest.raises(TemplateError, match=case.get("message")) as raised:
        answer(case)
    if "line" in case:
        assert (raised.value.line, raised.value.column) == (case["line"], case["column"])
    if "abort" in case:
        assert isinstance(raised.value, TemplateAbort) == case["abort"], case.get("reason")


@pytest.mark.parametrize("case", load("probe.json"))
def test_answers_are_those_of_the_original_engine(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.parametrize("case", load("own.json"))
def test_answers_are_those_of_the_specification(case: dict[str, Any]) -> None:
    check(case)


def test_every_case_of_our_own_says_why_it_is_there() -> None:
    assert all(param.values[0].get("reason") for param in load("own.json"))


def test_ids_are_unique() -> None:
    ids = [param.id for name in ("probe.json", "own.json") for param in load(name)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", ["filters", "tags", "functions"])
def test_every_word_of_the_language_is_in_some_case(kind: str) -> None:
    """A filter, tag or function that no case uses has no promise to keep."""
    from flyteops.template.template import LANGUAGE  # noqa: PLC0415

    sources = " ".join(
        json.dumps(param.values[0]["template"])
        for name in ("probe.json", "own.json")
        for param in load(name)
    )
    mark = {"filters": "|", "tags": "{% ", "functions": ""}[kind]
    compact = sources.replace("| ", "|") if kind == "filters" else sources
    unused = [word for word in getattr(LANGUAGE, kind) if f"{mark}{word}" not in compact]
    assert unused == []
