"""The templates of a flow: their places, and the names that each of them sees."""

from collections.abc import Iterator
from typing import NamedTuple

from flyteops.document import Path
from flyteops.flow.advice.outside import texts
from flyteops.flow.edition2.outline import FlowOutline, StepOutline
from flyteops.flow.edition2.shape import Node

NAMES = (
    "Event",
    "Vars",
    "Trigger",
    "Context",
    "Steps",
    "Execution",
    "Item",
    "Previous",
    "Index",
)
"""The names that templates can see, each in its places."""


class VisibleNames(NamedTuple):
    """The names that a template sees, and the reason in words."""

    names: frozenset[str]
    reason: str


class TemplatePlace(NamedTuple):
    """A template of a flow; in `secrets` only may it use secret()."""

    path: Path
    source: str
    scope: VisibleNames
    may_use_secrets: bool = False


VARS = VisibleNames(frozenset(), "vars are constants")
LIMIT = VisibleNames(frozenset(["Event", "Vars"]), "the limits of a flow see Event and Vars only")
KEY = VisibleNames(frozenset(["Event"]), "the key of an event sees Event only")
START = VisibleNames(
    frozenset(["Event", "Vars"]), "the criteria and labels of a trigger see Event and Vars only"
)
TRIGGER = VisibleNames(
    frozenset(["Event", "Vars", "Trigger", "Context", "Execution"]),
    "no step has a result before a trigger",
)
STEP = VisibleNames(TRIGGER.names | {"Steps"}, "")

LIMITS = {
    "dedupe": ("key", "within"),
    "debounce": ("key", "for", "maxWait"),
    "batch": ("key", "within"),
    "threshold": ("key", "within"),
    "rateLimit": ("key", "per"),
    "concurrency": ("key",),
}
"""The templates of the limits of a flow."""


def template_places(flow: FlowOutline) -> Iterator[TemplatePlace]:
    """Yield all templates of a flow."""
    yield from _texts(flow.node.get("vars"), ("vars",), VARS)
    yield from _texts(flow.node.get("timeout"), ("timeout",), LIMIT)
    for limit, keys in LIMITS.items():
        yield from _members(flow.node.node(limit), (limit,), keys, LIMIT)
    for step in flow.steps:
        yield from _of_step(step)


def _of_step(step: StepOutline) -> Iterator[TemplatePlace]:
    scope = TRIGGER if step.is_trigger and not step.is_wait else STEP
    start = START if scope is TRIGGER else STEP
    for pattern in step.patterns:
        yield from _members(pattern.node, pattern.path, ("packLabels",), start)
        yield from _members(pattern.node, pattern.path, ("key",), KEY)
    yield from _members(step.node, step.path, ("criteria",), start)
    correlate = step.node.node("correlate")
    yield from _members(correlate, (*step.path, "correlate"), ("event",), KEY)
    yield from _members(correlate, (*step.path, "correlate"), ("with", "lookBack"), scope)
    yield from _members(step.node, step.path, ("context", "delay", "timeout"), scope)
    yield from _members(step.node.node("forEach"), (*step.path, "forEach"), ("in",), scope)
    yield from _members(step.node.node("repeat"), (*step.path, "repeat"), ("while", "delay"), scope)
    yield from _of_command(step, scope)


def _of_command(step: StepOutline, scope: VisibleNames) -> Iterator[TemplatePlace]:
    command = step.command
    if command is None:
        return
    extra = {"Item", "Index"} if step.node.has("forEach") else set()
    extra |= {"Previous", "Index"} if step.node.has("repeat") else set()
    within = VisibleNames(scope.names | extra, scope.reason)
    path = (*step.path, "command")
    for place in _members(command, path, ("input",), within):
        yield place._replace(may_use_secrets=not step.calls_server)
    yield from _members(command, path, ("packLabels", "timeout", "failsWhen", "expires"), within)
    retry = command.node("retry")
    yield from _members(retry, (*path, "retry"), ("backoff", "maxBackoff", "when"), within)


def _members(
    node: Node | None, path: Path, keys: tuple[str, ...], scope: VisibleNames
) -> Iterator[TemplatePlace]:
    for key in keys if node is not None else ():
        yield from _texts(node and node.get(key), (*path, key), scope)


def _texts(value: object, path: Path, scope: VisibleNames) -> Iterator[TemplatePlace]:
    for at, source in texts(value, path):
        yield TemplatePlace(at, source, scope)
