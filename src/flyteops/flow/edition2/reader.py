"""The strict reader of flow files of edition 2."""

from contextlib import suppress

import msgspec

from flyteops.convert import kind_of
from flyteops.definition import EDITION, FlowDefinition
from flyteops.document import Document
from flyteops.errors import InputError, Problem
from flyteops.flow.edition2.builtin import check_builtin_commands
from flyteops.flow.edition2.combination import check_combinations
from flyteops.flow.edition2.expression import check_templates
from flyteops.flow.edition2.graph import check_order
from flyteops.flow.edition2.outline import FlowOutline
from flyteops.flow.edition2.shape import Report, TooManyProblemsError, read_shape
from flyteops.model import JsonValue

CHECKS = (check_combinations, check_builtin_commands, check_order, check_templates)


def read_definition(document: Document) -> FlowDefinition:
    """Return the flow of edition 2 that a document describes.

    Raise `InputError` with all problems and their places, in the order of the text.
    """
    report = Report(document)
    with suppress(TooManyProblemsError):
        _check(document, report)
    if report.problems:
        raise refusal(report.problems)
    try:
        return msgspec.convert(document.value, FlowDefinition)
    except msgspec.ValidationError as error:
        raise refusal([document.problem((), str(error))]) from error


def _check(document: Document, report: Report) -> None:
    node = read_shape(document, report)
    if isinstance(document.value, dict) and not node.has("edition"):
        report.add((), f"'edition' is missing; write edition: {EDITION}")
    flow = FlowOutline(node)
    for check in CHECKS:
        check(flow, report)


def refusal(problems: list[Problem]) -> InputError:
    """Return the error with the problems of a flow, in the order of the text."""
    ordered = sorted(
        problems, key=lambda each: (each.line is None, each.line or 0, each.column or 0)
    )
    first = f"The flow has {len(ordered)} problems; the first: {ordered[0]}."
    detail = first if len(ordered) > 1 else f"The flow has a problem: {ordered[0]}."
    return InputError(detail, problems=ordered)


def edition_of(document: Document) -> int:
    """Return the edition of a flow file, 1 or 2; raise `InputError` for another one."""
    value = document.value
    if not isinstance(value, dict):
        return 1
    keys = [key for key in value if key.casefold() == "edition"]
    return max((_edition_at(document, key, value[key]) for key in keys), default=1)


def _edition_at(document: Document, key: str, given: JsonValue) -> int:
    """Return the edition under a key, spelled in upper or lower case; null is the first."""
    if given is None:
        return 1
    if type(given) is int and given in (1, EDITION):
        return given
    shown = msgspec.json.encode(given).decode()[:40] if type(given) is not str else repr(given)[:40]
    kind = "" if type(given) is int else f" ({kind_of(given)})"
    raise refusal([document.problem((key,), f"must be the number 1 or 2, not {shown}{kind}")])
