"""The templates of a flow: syntax, the names that they use, secrets, and constant conditions."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from flyteops.document import Path
from flyteops.errors import TemplateError
from flyteops.flow.edition2.graph import no_step
from flyteops.flow.edition2.outline import FlowOutline
from flyteops.flow.edition2.place import NAMES, TemplatePlace, template_places
from flyteops.flow.edition2.shape import Report
from flyteops.flow.nearest import suggestion
from flyteops.template.typed import TypedTemplate, compile_typed

STEP_FIELDS = ("Payload", "Event", "State", "Input", "StartedAt", "FinishedAt")
EXECUTION_FIELDS = ("Id", "Flow", "StartedAt", "Link", "FailedSteps")

STEADY_FUNCTIONS = frozenset(["range"])
"""The functions whose value depends on their arguments alone."""

ABOUT_SECRETS = "secret() is for the inputs of packs' commands only"

ReadPath = tuple[str | int, ...]
"""The static part of a path that a template reads."""


class TemplateReading(NamedTuple):
    """A path that a template reads, and the place of the template."""

    path: Path
    names: ReadPath


def readings(flow: FlowOutline) -> Iterator[TemplateReading]:
    """Yield the paths that the templates of a flow read; those with faults are left out."""
    for place in template_places(flow):
        with suppress(TemplateError):
            for names in dict.fromkeys(compile_typed(place.source).paths):
                yield TemplateReading(place.path, names)


def check_templates(flow: FlowOutline, report: Report) -> None:
    """Report the faults of all templates."""
    for place in template_places(flow):
        for message in _faults(flow, place):
            report.add(place.path, message)


def _faults(flow: FlowOutline, place: TemplatePlace) -> Iterator[str]:
    try:
        compiled = compile_typed(place.source)
    except TemplateError as error:
        yield f"in the template, {error}"
        return
    if compiled.secrets and not place.may_use_secrets:
        yield ABOUT_SECRETS
    for path in dict.fromkeys(compiled.paths):
        message = _about_path(flow, place, path)
        if message is not None:
            yield message
    if place.path[-1] == "criteria" and len(place.path) == 3 and _is_constant(compiled):
        yield "is constant: the template reads nothing; leave the key out if it is always true"
    if place.path[-2:] == ("forEach", "in") and not compiled.is_expression:
        yield (
            "must be exactly one expression {{ ... }}: with anything around it, it gives text, not"
            " a list"
        )


def _is_constant(compiled: TypedTemplate) -> bool:
    """Return whether a template gives the same value at all times."""
    reads = compiled.paths or compiled.secrets or compiled.datastore_keys != frozenset()
    return not reads and compiled.functions <= STEADY_FUNCTIONS


def _about_path(flow: FlowOutline, place: TemplatePlace, path: ReadPath) -> str | None:
    """Return the fault of a path that a template reads, None if there is none."""
    root = str(path[0])
    if root not in NAMES:
        return f"there is no name {root[:40]!r}{suggestion(root, NAMES)}"
    if root not in place.scope.names:
        return f"{root} is not available here: {_reason(root, place)}"
    return _about_part(flow, root, str(path[1]), path[2:]) if len(path) > 1 else None


def _about_part(flow: FlowOutline, root: str, name: str, rest: Sequence[str | int]) -> str | None:
    shown = repr(name[:40])
    match root:
        case "Steps":
            return _about_step(flow, name, rest)
        case "Vars" if not flow.node.has("vars") or flow.node.get("vars") is not None:
            names = list(flow.node.get("vars") or ())
            return _about_word(f"there is no {shown} in vars", name, names)
        case "Execution":
            return _about_word(f"an execution has no {shown}", name, EXECUTION_FIELDS)
        case "Previous":
            return _about_word(f"the result of a step has no {shown}", name, STEP_FIELDS)
    return None


def _reason(root: str, place: TemplatePlace) -> str:
    if root == "Item":
        return "it is for the command of a step with forEach"
    if root == "Previous":
        return "it is for the command of a step with repeat"
    if root == "Index":
        return "it is for the command of a step with forEach or repeat"
    return place.scope.reason


def _about_step(flow: FlowOutline, step_id: str, rest: Sequence[str | int]) -> str | None:
    if step_id not in flow.by_id:
        hyphened = next((each for each in flow.ids if each.startswith(f"{step_id}-")), None)
        if hyphened is not None:
            return f'there is no step {step_id!r}; did you mean Steps["{hyphened}"]?'
        return no_step(step_id, flow.ids)
    if rest:
        return _about_word(
            f"the result of a step has no {str(rest[0])[:40]!r}", str(rest[0]), STEP_FIELDS
        )
    return None


def _about_word(message: str, word: str, known: Sequence[str]) -> str | None:
    return None if word in known else f"{message}{suggestion(word, known)}"
