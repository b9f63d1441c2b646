"""Templates that give values of another type than the key of a flow needs."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.support.engine import World
from tests.support.model import NOON, read


def begun(text: str, payload: Any = None) -> World:
    world = World(read(text), NOON)
    world.send("Chat", "Said", payload, {})
    return world


def messages(world: World) -> list[str]:
    """The messages of the results `Error`, in their order."""
    events = [each.occurrence.event for each in world.events.values()]
    return [msgspec.json.decode(each.payload)["message"] for each in events if each.name == "Error"]


def state(world: World) -> str:
    return world.document(next(reversed(world.documents))).state


DO = "command: {packName: Worker, name: Do}"


@pytest.mark.parametrize(
    ("term", "payload", "message"),
    [
        ("delay: '{{ Event.Payload }}'", [1], "delay must give a duration such as 30s, not [1]"),
        ("delay: '{{ Event.Payload }}'", -1, "delay must give a duration such as 30s, not -1"),
        ("delay: '{{ Event.Payload }}'", True, "delay must give a duration such as 30s, not True"),
        ("delay: '{{ Event.Payload }}'", "2026-13-01T00:00:00Z", "delay must be a time"),
        ("timeout: '{{ Event.Payload }}'", "soon", "timeout must give a duration such as 30s"),
    ],
)
def test_a_time_that_is_none_fails_the_step(term, payload, message):
    world = begun(f"[{{id: a, event: {{packName: Chat}}, {term}, {DO}}}]", payload)
    (found,) = messages(world)
    assert found.startswith(message[:20])
    assert state(world) == "FAILED"


def test_a_delay_may_be_a_time_and_one_in_the_past_is_now():
    flow = f"[{{id: a, event: {{packName: Chat}}, delay: '{{{{ Event.Payload }}}}', {DO}}}]"
    assert begun(flow, "2026-12-01T11:00:00Z").take("Worker", {}) is not None
    later = begun(flow, "2026-12-01T12:00:05Z")
    assert later.take("Worker", {}) is None
    later.advance(timedelta(seconds=5))
    assert later.take("Worker", {}) is not None


def test_criteria_may_be_a_text_and_must_be_true_or_false():
    flow = """
        - {id: a, event: {packName: Chat}}
        - {id: b, dependsOn: [a], criteria: '{{ Event.Payload }}'}
        """
    assert state(begun(flow, " true ")) == "SUCCEEDED"
    world = begun(flow, "maybe")
    assert messages(world) == ["criteria must give true or false, not 'maybe'"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (["a"], "correlate.with must give a text, a number or a boolean, not ['a']"),
        (None, "correlate.with must give a text, a number or a boolean"),
        ("x" * 1025, "correlate.with gives more than 1024 characters"),
    ],
)
def test_a_key_that_is_none_fails_the_wait(key, message):
    world = begun(
        """
        - {id: a, event: {packName: Chat, name: Said}}
        - id: w
          dependsOn: [a]
          correlate: {event: '{{ Event.Payload }}', with: '{{ Trigger.Payload }}'}
          event: {packName: Chat, name: Reply}
        """,
        key,
    )
    (found,) = messages(world)
    assert found.startswith(message)
    assert state(world) == "FAILED"


def test_labels_are_texts_as_they_are_printed():
    world = begun(
        "[{id: a, event: {packName: Chat}, command: {packName: Worker, name: Do,"
        " packLabels: {n: '{{ 3.0 }}', b: '{{ true }}'}}}]"
    )
    (row,) = world.rows.values()
    assert row.action.pack_labels == {"n": "3", "b": "true"}
