"""A view of the steps of a flow file that may have faults, for the checks between parts."""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple

from flyteops.document import Path
from flyteops.flow.edition2.shape import Node
from flyteops.model import SERVER

Mode = Literal["any", "all", "settled"]

MODES: tuple[Mode, ...] = ("any", "all", "settled")


class PatternOutline(NamedTuple):
    """A pattern of a step, and its place."""

    path: Path
    node: Node

    @property
    def result_of(self) -> str | None:
        return self.node.text("resultOf")


class Reference(NamedTuple):
    """The id of another step, and its place."""

    step_id: str
    path: Path


class StepOutline:
    """A step with its place; parts with a fault are missing."""

    def __init__(self, index: int, node: Node) -> None:
        self.index = index
        self.node = node
        self.path: Path = ("steps", index)
        self.id = node.text("id")
        self.patterns = tuple(self._patterns())
        self.mode, self.references = self._dependencies()

    @property
    def title(self) -> str:
        """The step in a message."""
        return "this step" if self.id is None else f"step {self.id!r}"

    @cached_property
    def is_trigger(self) -> bool:
        """Whether it begins executions."""
        is_dependent = self.node.has("dependsOn") or any(
            pattern.node.has("resultOf") for pattern in self.patterns
        )
        return not is_dependent

    @property
    def is_wait(self) -> bool:
        """Whether it waits for an event from outside."""
        return self.node.has("correlate")

    @property
    def is_continuation(self) -> bool:
        """Whether its patterns are about results of the steps that it depends on."""
        return not self.is_trigger and not self.is_wait

    @property
    def command(self) -> Node | None:
        return self.node.node("command")

    @property
    def calls_server(self) -> bool:
        """Whether the server executes its command."""
        return self.command is not None and self.command.text("packName") == SERVER

    def _patterns(self) -> Iterator[PatternOutline]:
        path: Path = (*self.path, "event")
        single = self.node.node("event")
        if single is not None:
            yield PatternOutline(path, single)
        for index, node in self.node.nodes("event"):
            yield PatternOutline((*path, index), node)

    def _dependencies(self) -> tuple[Mode, tuple[Reference, ...]]:
        path: Path = (*self.path, "dependsOn")
        given = self.node.get("dependsOn")
        if isinstance(given, list):
            return "any", _references(given, path)
        if isinstance(given, Node):
            mode = next((each for each in MODES if given.has(each)), MODES[0])
            return mode, _references(given.get(mode), (*path, mode))
        named = tuple(
            Reference(pattern.result_of, (*pattern.path, "resultOf"))
            for pattern in self.patterns
            if pattern.result_of is not None
        )
        return "any", () if self.node.has("dependsOn") else named


def _references(given: object, path: Path) -> tuple[Reference, ...]:
    ids = given if isinstance(given, list) else []
    return tuple(
        Reference(each, (*path, index)) for index, each in enumerate(ids) if isinstance(each, str)
    )


class FlowOutline:
    """A flow and its steps; `by_id` has the first step of each id."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.steps = tuple(StepOutline(index, each) for index, each in node.nodes("steps"))
        self._dependencies: dict[int, list[StepOutline]] = {}
        self.by_id: dict[str, StepOutline] = {}
        for step in self.steps:
            if step.id is not None:
                self.by_id.setdefault(step.id, step)

    @property
    def ids(self) -> list[str]:
        return list(self.by_id)

    def dependencies(self, step: StepOutline) -> list[StepOutline]:
        """Return the known steps that a step depends on, each once."""
        if step.index not in self._dependencies:
            ids = dict.fromkeys(reference.step_id for reference in step.references)
            self._dependencies[step.index] = [
                self.by_id[each] for each in ids if each in self.by_id
            ]
        return self._dependencies[step.index]
