"""Steps with several actions: items and rounds that fail."""

from typing import Any

import msgspec

from tests.support.engine import World
from tests.support.model import NOON, read


def begun(text: str, payload: Any = None) -> World:
    world = World(read(text), NOON)
    world.send("Chat", "Said", payload, {})
    return world


def do(world: World, payload: Any = None, *, failure: bool = False) -> None:
    row = world.take("Worker", {})
    assert row is not None
    number = len(row.attempts) - 1
    world.complete(row, "Done", payload, failure=failure, attempt_number=number)


def completed(world: World) -> Any:
    """The payload of the result `Completed`."""
    events = [each.occurrence.event for each in world.events.values()]
    (found,) = [each for each in events if each.name == "Completed"]
    return msgspec.json.decode(found.payload)


def state(world: World) -> str:
    return world.document(next(reversed(world.documents))).state


def items(value: str, rest: str = "") -> str:
    return (
        f"[{{id: a, event: {{packName: Chat}}, forEach: {{in: '{value}'{rest}}},"
        " command: {packName: Worker, name: Do, input: '{{ 1 + Item }}'}}]"
    )


def rounds(terms: str, given: str = "{{ Index }}") -> str:
    return (
        f"[{{id: a, event: {{packName: Chat}}, repeat: {{{terms}}},"
        f" command: {{packName: Worker, name: Do, input: '{given}'}}}}]"
    )


def test_an_item_whose_input_fails_has_failed_alone():
    world = begun(items("{{ Event.Payload }}"), [1, "two", 3])
    do(world)
    do(world)
    found = completed(world)
    assert (found["total"], found["succeeded"], found["failed"]) == (3, 2, 1)
    assert [each["event"] for each in found["results"]] == ["Done", "Error", "Done"]
    assert state(world) == "FAILED"


def test_no_more_items_follow_a_failure_that_stops():
    world = begun(items("{{ Event.Payload }}", ", parallel: 1, onFailure: stop"), [1, 2, 3])
    do(world)
    do(world, failure=True)
    found = completed(world)
    assert (found["total"], len(found["results"])) == (3, 2)


def test_a_value_that_is_not_a_list_and_too_many_items_fail_the_step():
    for payload in ("text", list(range(10_001))):
        world = begun(items("{{ Event.Payload }}"), payload)
        assert (state(world), world.rows) == ("FAILED", {})


def test_no_items_are_a_success():
    world = begun(items("{{ Event.Payload }}"), [])
    assert (state(world), completed(world)["results"]) == ("SUCCEEDED", [])


def test_rounds_end_with_the_maximum_a_failure_or_a_condition_that_fails():
    world = begun(rounds("while: true, max: 2"))
    do(world)
    do(world)
    assert completed(world)["message"] == "the maximum of 2 rounds was reached"
    world = begun(rounds("while: true"))
    do(world, failure=True)
    assert completed(world)["failed"] == 1
    world = begun(rounds("while: '{{ Event.Payload }}'"))
    do(world, "maybe")
    assert "true or false" in completed(world)["message"]
    assert state(world) == "FAILED"


def test_a_round_whose_input_fails_ends_the_step():
    world = begun(rounds("while: true", "{{ Previous.Payload|default(1) + 1 }}"))
    do(world, "text")
    assert state(world) == "FAILED"
    assert "cannot add" in completed(world)["message"]
