"""Compiled flow versions of edition 2: typed templates, and the indexes of dependent steps."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from flyteops.definition import (
    CommandDefinition,
    FlowDefinition,
    Retry,
    StepDefinition,
    TriggerPattern,
)
from flyteops.flow.policy import ATTEMPTS
from flyteops.model import JsonValue
from flyteops.template.typed import TypedValue, compile_typed_value

Mode = Literal["trigger", "any", "all", "settled"]
"""The kind of a step's dependency; a trigger has none."""

LIMITS = ("dedupe", "debounce", "batch", "threshold", "rateLimit", "concurrency")
"""The limits of a flow, in the order in which they apply."""

STEP_FIELDS = frozenset(["Payload", "Input"])
"""The fields of `Steps.ID` that are kept only if a template names them."""

TRUE = compile_typed_value(True)


class Version(Protocol):
    """A version of a flow of edition 2."""

    @property
    def uuid(self) -> str: ...
    @property
    def flow(self) -> FlowDefinition: ...
    @property
    def saved_at(self) -> datetime: ...


class PlannedPattern(NamedTuple):
    """A pattern with its templates compiled; `key` is that of the events of a wait."""

    pattern: TriggerPattern
    labels: Mapping[str, TypedValue]
    key: TypedValue | None
    key_source: str | None


class PlannedCommand(NamedTuple):
    """A command with its templates compiled; `reads` are the names that its templates read."""

    command: CommandDefinition
    labels: Mapping[str, TypedValue]
    input: TypedValue
    silence: TypedValue | None
    expires: TypedValue | None
    fails_when: TypedValue | None
    retry: Retry | None
    retry_when: TypedValue
    backoff: TypedValue
    max_backoff: TypedValue
    reads: frozenset[str]


class PlannedStep(NamedTuple):
    """A step with its templates compiled; `needs` are the positions of the steps depended on."""

    position: int
    step: StepDefinition
    mode: Mode
    needs: tuple[int, ...]
    patterns: tuple[PlannedPattern, ...]
    criteria: TypedValue
    context: TypedValue | None
    delay: TypedValue | None
    timeout: TypedValue | None
    key: TypedValue | None
    look_back: TypedValue | None
    items: TypedValue | None
    repeat_while: TypedValue | None
    repeat_delay: TypedValue | None
    command: PlannedCommand | None

    @property
    def id(self) -> str:
        return self.step.id

    @property
    def is_unconditional(self) -> bool:
        """Whether it has no criteria."""
        return self.step.criteria is None

    @property
    def judges_by_pattern(self) -> bool:
        """Whether results count by its patterns; those of a wait are about outside events."""
        return bool(self.patterns) and self.key is None


class Plan(NamedTuple):
    """A compiled version of a flow.

    `dependents` and `finallys` are, by position, the steps that depend on each, in the order of the
    file: those with `any` or `all`, and those with `settled`. `kept` are the pairs of step id and
    field that some template reads.
    """

    version: Version
    steps: tuple[PlannedStep, ...]
    by_id: Mapping[str, PlannedStep]
    dependents: tuple[tuple[int, ...], ...]
    finallys: tuple[tuple[int, ...], ...]
    triggers: tuple[int, ...]
    kept: frozenset[tuple[str, str]]
    timeout: TypedValue | None
    variables: Mapping[str, TypedValue]
    limit_keys: Mapping[str, TypedValue | None]

    @property
    def name(self) -> str:
        return self.version.flow.name

    def keeps(self, step_id: str, field: str) -> bool:
        """Return whether a template of the flow reads a field of the result of a step."""
        return (step_id, field) in self.kept


def compile_plan(version: Version) -> Plan:
    """Return the plan of a flow version; raise `TemplateError` for a template that has a fault."""
    flow = version.flow
    positions = {step.id: position for position, step in enumerate(flow.steps)}
    steps = tuple(_planned(step, positions) for step in flow.steps)
    variables = {name: compile_typed_value(value) for name, value in flow.vars.items()}
    return Plan(
        version=version,
        steps=steps,
        by_id={each.id: each for each in steps},
        dependents=_dependents(steps, ("any", "all")),
        finallys=_dependents(steps, ("settled",)),
        triggers=tuple(each.position for each in steps if each.mode == "trigger"),
        kept=frozenset(_kept(steps)),
        timeout=_optional(flow.timeout),
        variables=variables,
        limit_keys=_limit_keys(flow),
    )


def _planned(step: StepDefinition, positions: Mapping[str, int]) -> PlannedStep:
    mode, needs = _dependency(step)
    correlate, for_each, repeat = step.correlate, step.for_each, step.repeat
    return PlannedStep(
        position=positions[step.id],
        step=step,
        mode=mode,
        needs=tuple(dict.fromkeys(positions[each] for each in needs if each in positions)),
        patterns=tuple(_planned_pattern(each, step) for each in step.patterns),
        criteria=TRUE if step.criteria is None else compile_typed_value(step.criteria),
        context=compile_typed_value(step.context) if step.context else None,
        delay=_optional(step.delay),
        timeout=_optional(step.timeout),
        key=None if correlate is None else compile_typed_value(correlate.with_),
        look_back=None if correlate is None else _optional(correlate.look_back),
        items=None if for_each is None else compile_typed_value(for_each.in_),
        repeat_while=None if repeat is None else compile_typed_value(repeat.while_),
        repeat_delay=None if repeat is None else _optional(repeat.delay),
        command=None if step.command is None else _planned_command(step.command),
    )


def _dependency(step: StepDefinition) -> tuple[Mode, tuple[str, ...]]:
    wanted = step.dependency
    if wanted is None:
        return "trigger", ()
    if wanted.settled is not None:
        return "settled", wanted.settled
    return ("all", wanted.all) if wanted.all is not None else ("any", wanted.any or ())


def _planned_pattern(pattern: TriggerPattern, step: StepDefinition) -> PlannedPattern:
    key = None if step.correlate is None else pattern.key or step.correlate.event
    return PlannedPattern(
        pattern,
        _compile_all(pattern.pack_labels),
        _optional(key),
        key,
    )


def _planned_command(command: CommandDefinition) -> PlannedCommand:
    retry = command.retry
    if retry is None and command.on_lost == "retry":
        retry = Retry(attempts=ATTEMPTS)
    terms = retry or Retry()
    planned = PlannedCommand(
        command=command,
        labels=_compile_all(command.pack_labels),
        input=compile_typed_value(command.input),
        silence=_optional(command.timeout),
        expires=_optional(command.expires),
        fails_when=_optional(command.fails_when),
        retry=retry,
        retry_when=compile_typed_value(terms.when),
        backoff=compile_typed_value(terms.backoff),
        max_backoff=compile_typed_value(terms.max_backoff),
        reads=frozenset(),
    )
    return planned._replace(reads=frozenset(path[0] for path in _paths(_values(planned)) if path))


def _compile_all(texts: Mapping[str, str] | None) -> dict[str, TypedValue]:
    return {key: compile_typed_value(text) for key, text in (texts or {}).items()}


def _optional(value: str | bool | None) -> TypedValue | None:
    return None if value is None else compile_typed_value(value)


def _dependents(
    steps: tuple[PlannedStep, ...], modes: tuple[Mode, ...]
) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in steps]
    for each in steps:
        if each.mode in modes:
            for need in each.needs:
                found[need].append(each.position)
    return tuple(map(tuple, found))


def _limit_keys(flow: FlowDefinition) -> dict[str, TypedValue | None]:
    """Return the keys of the limits that a flow has; None for one without a key."""
    limits = zip(
        LIMITS,
        (
            flow.dedupe,
            flow.debounce,
            flow.batch,
            flow.threshold,
            flow.rate_limit,
            flow.concurrency,
        ),
        strict=True,
    )
    return {name: _optional(limit.key) for name, limit in limits if limit is not None}


# ------------------------------------------------------------------------ paths that templates read


def _kept(steps: tuple[PlannedStep, ...]) -> Iterator[tuple[str, str]]:
    """Yield the step ids and fields of results that templates read, all of them if it is open."""
    for root, *rest in _paths(value for each in steps for value in _values(each)):
        if root != "Steps":
            continue
        ids = [str(rest[0])] if rest else [each.id for each in steps]
        fields = STEP_FIELDS & {rest[1]} if len(rest) > 1 else STEP_FIELDS
        yield from ((step_id, field) for step_id in ids for field in fields)


def _values(parts: Iterable[object]) -> Iterator[TypedValue]:
    """Yield the compiled values in the fields of a planned step, pattern or command."""
    for part in parts:
        if isinstance(part, TypedValue):
            yield part
        elif isinstance(part, Mapping):
            yield from _values(part.values())
        elif isinstance(part, tuple):
            yield from _values(part)


def _paths(values: Iterable[TypedValue]) -> Iterator[tuple[JsonValue, ...]]:
    for value in values:
        for _, text in value.texts():
            yield from text.paths
