"""The results that a step can have: the packs and names of the events, as far as they are known."""

from typing import NamedTuple

from flyteops.document import Path
from flyteops.flow.edition2.builtin import COMMANDS, command_of
from flyteops.flow.edition2.outline import FlowOutline, PatternOutline, StepOutline
from flyteops.flow.edition2.shape import Node
from flyteops.flow.nearest import suggestion
from flyteops.model import SERVER


class PossibleResult(NamedTuple):
    """An event that is a result; None stands for any."""

    pack_name: str | None
    name: str | None


ANY = PossibleResult(None, None)
ANYTHING = frozenset([ANY])

MAX_SOURCES = 100
"""The maximum number of steps that are searched for the result of a gate."""


class PossibleResults:
    """The possible results of the steps of a flow."""

    def __init__(self, flow: FlowOutline) -> None:
        self._flow = flow
        self._known: dict[int, frozenset[PossibleResult]] = {}

    def of(self, step: StepOutline) -> frozenset[PossibleResult]:
        """Return the possible results of a step."""
        if step.index not in self._known:
            self._known[step.index] = self._find(step)
        return self._known[step.index]

    def can_succeed(self, step: StepOutline) -> bool:
        """Return whether the result of a step can be a success."""
        command = command_of(step)
        return command is None or not command.ends_execution

    def match(self, step: StepOutline, pattern: Node) -> bool:
        """Return whether a pattern matches a possible result of a step."""
        return any(_matches(result, pattern) for result in self.of(step))

    def mismatch(self, pattern: PatternOutline, sources: list[StepOutline]) -> tuple[Path, str]:
        """Return the place and the reason of a pattern that matches no result of these steps."""
        results = frozenset().union(*(self.of(each) for each in sources))
        names = " or ".join(repr(each.id) for each in sources)
        pack, event = pattern.node.text("packName"), pattern.node.text("name")
        packs = sorted({each.pack_name for each in results if each.pack_name is not None})
        if pack is not None and pack not in packs:
            return (
                (*pattern.path, "packName"),
                f"no result of {names} comes from the pack {pack!r}{suggestion(pack, packs)}",
            )
        events = sorted(
            {each.name for each in results if each.name and pack in (None, each.pack_name)}
        )
        return (
            (*pattern.path, "name"),
            f"no result of {names} has the name {event!r}{suggestion(event or '', events)}",
        )

    def _find(self, step: StepOutline) -> frozenset[PossibleResult]:
        """Return the results of a step; those of a gate are those of the steps before it."""
        found: set[PossibleResult] = set()
        waiting, seen = [step], {step.index}
        while waiting:
            each = waiting.pop()
            if each.index in self._known:
                found |= self._known[each.index]
                continue
            found |= _failures(each)
            if not _hands_on(each):
                found |= self._own(each)
                continue
            before = [
                source for source in self._flow.dependencies(each) if source.index not in seen
            ]
            seen.update(source.index for source in before)
            waiting += before
            if len(seen) > MAX_SOURCES:
                return ANYTHING
        return frozenset(found) if any(each.name != "Error" for each in found) else ANYTHING

    def _own(self, step: StepOutline) -> frozenset[PossibleResult]:
        if step.node.has("forEach") or step.node.has("repeat"):
            return frozenset([PossibleResult(SERVER, "Completed")])
        if step.node.has("command"):
            return _results_of_command(step)
        return self._results_of_gate(step)

    def _results_of_gate(self, step: StepOutline) -> frozenset[PossibleResult]:
        if step.node.has("schedule"):
            return frozenset([PossibleResult(SERVER, "Scheduled")])
        if step.is_trigger and any(self._flow.node.has(key) for key in ("batch", "threshold")):
            return frozenset([PossibleResult(SERVER, "Batch")])
        patterns = [each.node for each in step.patterns]
        return (
            frozenset(PossibleResult(each.text("packName"), each.text("name")) for each in patterns)
            or ANYTHING
        )


def _hands_on(step: StepOutline) -> bool:
    """Return whether the result of a step is that of the step before it."""
    return step.is_continuation and not any(
        step.node.has(key) for key in ("command", "forEach", "repeat", "schedule")
    )


def _results_of_command(step: StepOutline) -> frozenset[PossibleResult]:
    command, pack = step.command, None if step.command is None else step.command.text("packName")
    if command is None or pack is None:
        return ANYTHING
    if pack != SERVER:
        return frozenset([PossibleResult(pack, None)])
    name = command.text("name") or ""
    if name not in COMMANDS:
        return frozenset([PossibleResult(SERVER, None)])
    return frozenset(PossibleResult(SERVER, each) for each in (*COMMANDS[name].results, "FATAL"))


def _failures(step: StepOutline) -> frozenset[PossibleResult]:
    """Return the results that the server gives in place of a step."""
    names = ["Error"]
    if step.node.has("timeout") or step.is_wait:
        names.append("TimedOut")
    if step.command is not None and step.command.has("expires"):
        names.append("Expired")
    return frozenset(PossibleResult(SERVER, name) for name in names)


def _matches(result: PossibleResult, pattern: Node) -> bool:
    pairs = ((result.pack_name, "packName"), (result.name, "name"))
    return all(
        given is None or not pattern.has(key) or pattern.get(key) in (None, given)
        for given, key in pairs
    )
