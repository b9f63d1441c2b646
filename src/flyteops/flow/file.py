"""Flow files: YAML or JSON text to `Flow`, with all faults, and advice about likely mistakes.

Invalid content is refused: missing names, wrong types, templates that do not compile. Content that
may be intended, or is common in flows in use today, is accepted, and `lint` reports it. In lenient
mode, templates that do not compile are accepted as well, if there is no other fault, as by the
original.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice

from msgspec import inspect

from flyteops import name as naming
from flyteops import template
from flyteops.convert import read, type_info
from flyteops.definition import EDITION
from flyteops.document import MAX_PROBLEMS, Document, Path, parse_json, parse_yaml
from flyteops.errors import InputError, Problem, TemplateError
from flyteops.flow.advice.chat import message_advice
from flyteops.flow.advice.cron import cron_advice
from flyteops.flow.advice.outside import texts
from flyteops.flow.advice.script import script_advice
from flyteops.flow.edition2 import read_definition
from flyteops.flow.edition2.reader import edition_of, refusal
from flyteops.flow.nearest import suggestion
from flyteops.flow.policy import validate_policy
from flyteops.model import Command, EventPattern, Flow, JsonValue, RetryPolicy, Schedule, Step

MAX_ADVICE = 50
"""The maximum number of advice entries for a flow.

The search for the nearest correct word is slow.
"""

NOT_RUN = (
    "edition 2 can be checked with flyte lint, but this server does not run it yet; leave the key"
    " out for edition 1"
)
"""The problem of a flow of edition 2 without faults."""

ROOTS = ("Event", "Context")
EVENT_FIELDS = ("Name", "Payload", "Pack", "CreatedAt", "ReceivedAt")


def parse(data: bytes, *, is_yaml: bool) -> Document:
    """Parse the text of a flow file; raise `InputError`."""
    return parse_yaml(data) if is_yaml else parse_json(data)


def read_flow(document: Document, *, is_lenient: bool = False) -> Flow:
    """Return the flow that a document describes.

    Raise `InputError` with all problems and their places; a flow of edition 2 has one at least.

    When it `is_lenient`, templates that cannot be parsed are not a problem while there is no other:
    they fail their own step only. See `template_faults`.
    """
    if edition_of(document) == EDITION:
        read_definition(document)
        raise refusal([document.problem(("edition",), NOT_RUN)])
    problems: list[Problem] = []
    try:
        flow = read(document, Flow)
    except InputError as error:
        problems.extend(error.problems)
    checks = [_empty_names, _name_faults, _term_faults, _secret_faults]
    for check in checks:
        if len(problems) < MAX_PROBLEMS:  # more are not shown
            problems.extend(islice(check(document), MAX_PROBLEMS))
    if (problems or not is_lenient) and len(problems) < MAX_PROBLEMS:
        problems.extend(template_faults(document))
    if problems:
        subject = "The flow has" if len(problems) > 1 else "The flow has a problem:"
        detail = (
            f"{len(problems)} problems; the first: {problems[0]}"
            if len(problems) > 1
            else str(problems[0])
        )
        raise InputError(f"{subject} {detail}.", problems=problems)
    return flow


def _empty_names(document: Document) -> Iterator[Problem]:
    name = _get(document.value, "name")
    if isinstance(name, str) and not name.strip():
        yield document.problem(("name",), "must not be empty")
    for index, step in enumerate(_list(_get(document.value, "steps"))):
        for noun in ("event", "command"):
            for key in ("name", "packName"):
                if _get(_get(step, noun), key) == "":
                    yield document.problem(("steps", index, noun, key), "must not be empty")


def _name_faults(document: Document) -> Iterator[Problem]:
    """Yield the names that no store accepts.

    Labels are templates, so only their keys are known yet.
    """
    for path, name in _names(document.value):
        fault = naming.fault_of(name)
        if fault is not None:
            yield document.problem(path, fault)


def _names(flow: JsonValue) -> Iterator[tuple[Path, str]]:
    found: list[tuple[Path, JsonValue]] = [(("name",), _get(flow, "name"))]
    for index, step in enumerate(_list(_get(flow, "steps"))):
        at: Path = ("steps", index)
        found.append(((*at, "id"), _get(step, "id")))
        for noun in ("event", "command"):
            value = _get(step, noun)
            found += [((*at, noun, key), _get(value, key)) for key in ("name", "packName")]
            labels = _get(value, "packLabels")
            found += [
                ((*at, noun, "packLabels"), key)
                for key in (labels if isinstance(labels, dict) else ())
            ]
    yield from ((path, name) for path, name in found if isinstance(name, str))


def _term_faults(document: Document) -> Iterator[Problem]:
    for index, value in enumerate(_list(_get(document.value, "steps"))):
        if isinstance(value, dict):
            has_event, has_schedule = (
                _get(value, "event") is not None,
                _get(value, "schedule") is not None,
            )
            if not has_event and not has_schedule:
                yield document.problem(
                    ("steps", index), "'event' is missing; a step has an event or a schedule"
                )
            elif has_event and has_schedule:
                yield document.problem(
                    ("steps", index, "schedule"),
                    "does not go with an event; a step has one of them",
                )
        for path, message in validate_policy(_step_for_terms(value)):
            yield document.problem(("steps", index, *path), message)


def _step_for_terms(value: JsonValue) -> Step:
    """Return a step with the terms of a value, as far as their types are right.

    Faults in types are reported elsewhere.
    """
    with suppress(InputError):
        return read(Document(value), Step)
    command, schedule = _get(value, "command"), _get(value, "schedule")
    depends_on = _get(value, "dependsOn")
    return Step(
        event=EventPattern("", ""),
        command=Command(
            "",
            "",
            # The presence of a timeout counts, too.
            timeout=None if _get(command, "timeout") is None else _text(command, "timeout") or "1m",
            retry=_retry_for_terms(_get(command, "retry")),
            on_lost=_text(command, "onLost"),
        ),
        delay=_text(value, "delay"),
        schedule=None if schedule is None else _schedule_for_terms(schedule),
        depends_on=None if depends_on is None else (),
    )


def _retry_for_terms(value: JsonValue) -> RetryPolicy | None:
    if not isinstance(value, dict):
        return None
    attempts = _get(value, "attempts")
    is_number = isinstance(attempts, int) and not isinstance(attempts, bool)
    return RetryPolicy(
        attempts=attempts if is_number else None,
        backoff=_text(value, "backoff"),
        max_backoff=_text(value, "maxBackoff"),
    )


def _schedule_for_terms(value: JsonValue) -> Schedule:
    cron = _text(value, "cron")
    return Schedule(
        "@daily" if cron is None else cron, _text(value, "timeZone"), _text(value, "catchUp")
    )


def _text(value: JsonValue, key: str) -> str | None:
    found = _get(value, key)
    return found if isinstance(found, str) else None


# ---------------------------------------------------------------------------------------- templates


def template_faults(document: Document) -> Sequence[Problem]:
    """Return the templates of a flow that cannot be parsed; each fails its own step only.

    Of very many, the first ones are returned.
    """
    return [
        document.problem(path, f"in the template, {error}")
        for path, error in islice(_faulty_templates(document.value), MAX_PROBLEMS)
    ]


def _faulty_templates(flow: JsonValue) -> Iterator[tuple[Path, TemplateError]]:
    for path, source in _template_sources(flow):
        try:
            template.compile(source)
        except TemplateError as error:
            yield path, error


def _secret_faults(document: Document) -> Iterator[Problem]:
    for path, source in _template_sources(document.value):
        with suppress(TemplateError):
            if template.compile(source).secrets and path[2:4] != ("command", "input"):
                yield document.problem(path, template.ABOUT_SECRETS)


def _without_faults(document: Document, flow: Flow) -> tuple[Document, Flow]:
    """Return the document and its flow without the templates that cannot be parsed.

    The empty text takes their place.
    """
    faulty = [path for path, _ in _faulty_templates(document.value)]
    if not faulty:
        return document, flow
    cleaned = document.with_value(_emptied(document.value, faulty))
    return cleaned, read(cleaned, Flow)


def _emptied(value: JsonValue, paths: Sequence[Path]) -> JsonValue:
    """Return a value with the empty text at these places, all in one pass."""
    if () in paths:
        return ""
    below: dict[str | int, list[Path]] = {}
    for first, *rest in paths:
        key = first
        if isinstance(value, dict) and first not in value:
            folded = str(first).casefold()
            key = next((each for each in value if each.casefold() == folded), first)
        below.setdefault(key, []).append(tuple(rest))
    if isinstance(value, list):
        return [
            _emptied(each, below[index]) if index in below else each
            for index, each in enumerate(value)
        ]
    if isinstance(value, dict):
        return {
            key: _emptied(each, below[key]) if key in below else each for key, each in value.items()
        }
    return value


def _template_sources(flow: JsonValue) -> Iterator[tuple[Path, str]]:
    """Yield every template of a flow, even if the rest of it is invalid."""
    for index, step in enumerate(_list(_get(flow, "steps"))):
        at: Path = ("steps", index)
        event, command = _get(step, "event"), _get(step, "command")
        yield from texts(_get(step, "context"), (*at, "context"))
        yield from texts(_get(step, "criteria"), (*at, "criteria"))
        yield from texts(_get(event, "packLabels"), (*at, "event", "packLabels"))
        yield from texts(_get(command, "packLabels"), (*at, "command", "packLabels"))
        yield from texts(_get(command, "input"), (*at, "command", "input"))


def _get(value: JsonValue, key: str) -> JsonValue:
    if not isinstance(value, dict):
        return None
    if key in value:
        return value[key]
    return next((value[other] for other in value if other.casefold() == key.casefold()), None)


def _list(value: JsonValue) -> Sequence[JsonValue]:
    return value if isinstance(value, list) else ()


# --------------------------------------------------------------------------------------------- lint


def lint(document: Document, flow: Flow) -> Sequence[Problem]:
    """Return advice about a flow that `read_flow` accepted.

    It reports parts that are ignored, can never run, or run more often than expected.
    """
    document, flow = _without_faults(document, flow)
    found = chain(
        _unknown_keys(document, document.value, type_info(Flow), ()),
        cron_advice(document, flow, _template_sources(document.value)),
        _dependency_advice(document, flow),
        _identity_advice(document, flow),
        _repetition_advice(document, flow),
        _variable_advice(document, flow),
        _null_advice(document),
        script_advice(document, flow),
        message_advice(document, flow),
    )
    return list(islice(found, MAX_ADVICE))


def key_advice(document: Document) -> Sequence[Problem]:
    """Return advice about the keys that are ignored, also in a flow that `read_flow` refuses."""
    with suppress(InputError):
        if edition_of(document) == EDITION:
            return ()
    return list(islice(_unknown_keys(document, document.value, type_info(Flow), ()), MAX_ADVICE))


def _unknown_keys(
    document: Document, value: JsonValue, kind: inspect.Type, path: Path
) -> Iterator[Problem]:
    match kind:
        case inspect.StructType() if isinstance(value, dict):
            fields = {field.encode_name: field.type for field in kind.fields}
            for key, item in value.items():
                name = (
                    key
                    if key in fields
                    else next((name for name in fields if name.casefold() == key.casefold()), None)
                )
                if name is None and not (path == () and key == "edition"):
                    yield document.problem(
                        (*path, key), f"the key {key!r} is ignored{suggestion(key, fields)}"
                    )
                elif name is not None:
                    yield from _unknown_keys(document, item, fields[name], (*path, key))
        case inspect.VarTupleType() if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _unknown_keys(document, item, kind.item_type, (*path, index))
        case inspect.UnionType():  # at most one of the types has the form of the value
            for option in kind.types:
                yield from _unknown_keys(document, value, option, path)


def _dependency_advice(document: Document, flow: Flow) -> Iterator[Problem]:
    ids = dict.fromkeys(step.id for step in flow.steps)
    for index, step in enumerate(flow.steps):
        path: Path = ("steps", index, "dependsOn")
        wanted = step.dependencies
        for step_id in (*wanted.all, *wanted.any):
            if step_id not in ids:
                yield document.problem(
                    path, f"there is no step {step_id!r}{suggestion(step_id, ids)}"
                )
    for index in _never_reached(flow):
        yield document.problem(
            ("steps", index),
            f"step {flow.steps[index].id!r} can never run: nothing it depends on can finish",
        )


def _never_reached(flow: Flow) -> Sequence[int]:
    """Return the steps that no order of results can reach. Each dependency is followed once."""
    missing = [set(step.dependencies.all) for step in flow.steps]
    lacks_any = [bool(step.dependencies.any) for step in flow.steps]
    waiting: dict[str, list[int]] = {}
    for index, step in enumerate(flow.steps):
        for step_id in {*step.dependencies.all, *step.dependencies.any}:
            waiting.setdefault(step_id, []).append(index)
    left = set(range(len(flow.steps)))
    ready = [index for index in left if not missing[index] and not lacks_any[index]]
    while ready:
        index = ready.pop()
        left.discard(index)
        step_id = flow.steps[index].id
        for other in waiting.pop(step_id, ()):
            missing[other].discard(step_id)
            lacks_any[other] &= step_id not in flow.steps[other].dependencies.any
            if other in left and not missing[other] and not lacks_any[other]:
                ready.append(other)
    return sorted(left)


def _identity_advice(document: Document, flow: Flow) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, step in enumerate(flow.steps):
        if step.id in seen:
            what = (
                f"the id {step.id!r} is used twice"
                if step.id
                else "a step has no id, like one before it"
            )
            yield document.problem(
                ("steps", index),
                f"{what}; in the continuation of an execution only one of them can run",
            )
        seen.add(step.id)


def _repetition_advice(document: Document, flow: Flow) -> Iterator[Problem]:
    # A flow file does not declare which events are results; an event that a dependent step waits
    # for surely is one.
    results = {
        (step.event.pack_name, step.event.name) for step in flow.steps if not step.is_trigger
    }
    for index, step in enumerate(flow.steps):
        if step.is_trigger and (step.event.pack_name, step.event.name) in results:
            yield document.problem(
                ("steps", index),
                f"step {step.id!r} has no dependsOn, and {step.event.name!r} of pack"
                f" {step.event.pack_name!r} is also a result in this flow: each one runs the step"
                " where the result belongs and in a new execution as well; add dependsOn or"
                " criteria if that is not meant",
            )


def _variable_advice(document: Document, flow: Flow) -> Iterator[Problem]:
    contexts = [step.context or {} for step in flow.steps]
    counts = Counter(key for context in contexts for key in context)
    names = sorted(counts)
    for path, source in _template_sources(document.value):
        index = path[1]
        is_context = path[2] == "context" and isinstance(index, int)
        own = contexts[index] if is_context and isinstance(index, int) else {}
        for variable in template.compile(source).variables:
            key = variable.removeprefix("Context.").partition(".")[0]
            is_defined = counts[key] > (key in own)
            complaint = _about_variable(variable, names, is_defined=is_defined)
            if complaint:
                yield document.problem(path, complaint)


def _null_advice(document: Document) -> Iterator[Problem]:
    """Warn where the input of a command holds null, which templates do not keep."""
    for index, step in enumerate(_list(_get(document.value, "steps"))):
        command = _get(step, "command")
        for path in _nulls(_get(command, "input"), ("steps", index, "command", "input")):
            if isinstance(path[-1], int):
                message = (
                    "null in a list cannot be rendered: the step fails whenever it should run;"
                    " leave the item out or write ''"
                )
            else:
                message = (
                    f"null is dropped: the pack gets an input without {path[-1]!r}; leave it out or"
                    " write ''"
                )
            yield document.problem(path, message)


def _nulls(value: JsonValue, path: Path) -> Iterator[Path]:
    """Yield the path of every null inside a map or a list."""
    items: Iterable[tuple[str | int, JsonValue]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        if item is None:
            yield (*path, key)
        else:
            yield from _nulls(item, (*path, key))


def _about_variable(variable: str, defined: Sequence[str], *, is_defined: bool) -> str | None:
    if "(" in variable:
        return None
    root, _, rest = variable.partition(".")
    field = rest.partition(".")[0]
    if root not in ROOTS:
        return f"{root!r} is never set{suggestion(root, ROOTS)}"
    if root == "Event" and field and field not in EVENT_FIELDS:
        return f"an event has no {field!r}{suggestion(field, EVENT_FIELDS)}"
    if root == "Context" and field and not is_defined:
        return (
            f"no step before sets {field!r} in its context, and a context does not see"
            f" itself{suggestion(field, defined)}"
        )
    return None
