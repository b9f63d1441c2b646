"""Templates: the names that they see, and values of the types that the keys of a flow need."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import cast

from flyteops.definition import FlowDefinition
from flyteops.errors import TemplateRenderError
from flyteops.model import JsonValue, pack_id
from flyteops.simulator.record import Action, Event, Execution, Key, StepRun
from flyteops.simulator.world import World
from flyteops.template.runtime import Runtime
from flyteops.template.typed import compile_typed_value
from flyteops.timeformat import parse_duration, parse_timestamp

Scope = Mapping[str, object]

KEY_LENGTH = 1024
"""The maximum number of characters of a key."""


class Renderer:
    """Renders the templates of one step (or flow) for one event.

    Random values come from the seed, the event, the flow version, the step and the index, so that
    no other step changes them. `secret()` works only where `secrets` is true; its value is masked.
    """

    def __init__(
        self, world: World, flow: FlowDefinition, event: Event, step_id: str = "", *parts: object
    ) -> None:
        self._world = world
        self._flow = flow
        version = f"{flow.name} {world.versions.get(flow.name, 0)}"
        chances = world.random(event.event_id, version, step_id, *map(str, parts))
        self._runtime = Runtime(
            datastore=world.read_item, random=lambda: chances, now=world.now, secret=_no_secret
        )
        self.scope: dict[str, object] = {"Event": event_value(event)}

    def with_vars(self) -> "Renderer":
        """Add `Vars`, which is all that triggers' criteria and limits see beside the event."""
        self.scope["Vars"] = Vars(self._flow, self._runtime)
        return self

    def with_execution(self, execution: Execution, context: Mapping[str, JsonValue]) -> "Renderer":
        """Add the names that all steps see, and `Steps`, which triggers do not use."""
        self.with_vars()
        self.scope["Trigger"] = event_value(execution.trigger)
        self.scope["Context"] = context
        self.scope["Steps"] = {
            run.step.id: step_value(run) for run in execution.steps.values() if not run.is_open
        }
        self.scope["Execution"] = {
            "Id": execution.execution_id,
            "Flow": execution.flow.name,
            "StartedAt": execution.started_at,
            "Link": execution.link,
            "FailedSteps": execution.failed_steps,
        }
        return self

    def with_item(self, index: int, item: JsonValue, previous: object) -> "Renderer":
        """Add the names of `forEach` and `repeat`."""
        self.scope.update(Index=index, Item=item, Previous=previous)
        return self

    def with_context(self, context: Mapping[str, JsonValue]) -> "Renderer":
        self.scope["Context"] = context
        return self

    def value(self, template: JsonValue, *, secrets: bool = False) -> JsonValue:
        """Render every text of a value."""
        runtime = self._runtime._replace(secret=_mask if secrets else _no_secret)
        return compile_typed_value(template).render(self.scope, runtime)

    def truth(self, template: str | bool, place: str) -> bool:
        """Render true or false, or these words as text; anything else is an error."""
        value = self.value(template)
        if isinstance(value, str) and value.strip() in {"true", "false"}:
            return value.strip() == "true"
        if not isinstance(value, bool):
            raise TemplateRenderError(f"{place} must give true or false, not {_shown(value)}")
        return value

    def duration(self, template: str, place: str) -> timedelta:
        """Render a duration: a text such as ``30s``, or a number of seconds."""
        value = self.value(template)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return timedelta(seconds=value)
        try:
            return parse_duration(cast("str", value).strip())
        except (AttributeError, ValueError):
            raise TemplateRenderError(
                f"{place} must give a duration such as 30s, not {_shown(value)}"
            ) from None

    def due(self, template: str, place: str) -> datetime:
        """Render a duration from now, or a time; one in the past is due now."""
        value = self.value(template)
        if isinstance(value, str) and "T" in value:
            at = parse_timestamp(value.strip(), place)
            return max(self._world.now, at or self._world.now)
        return self._world.now + self.duration(template, place)

    def key(self, template: str, place: str) -> Key:
        """Render a key, null included; lists, maps and long texts are errors."""
        value = self.value(template)
        if isinstance(value, list | dict):
            raise TemplateRenderError(
                f"{place} must give a text, a number or a boolean, not {_shown(value)}"
            )
        if isinstance(value, str) and len(value) > KEY_LENGTH:
            raise TemplateRenderError(f"{place} gives more than {KEY_LENGTH} characters")
        return cast("Key", value)


def _mask(name: str, form: str) -> str:
    return f"secret {name}"


def _no_secret(name: str, form: str) -> str:
    raise TemplateRenderError(f"secret({name!r}) is only for inputs of packs' commands")


def _shown(value: JsonValue) -> str:
    return repr(value)[:80]


class Vars(Mapping[str, object]):
    """The constants of a flow, each rendered where it is used; they see none of the names."""

    def __init__(self, flow: FlowDefinition, runtime: Runtime) -> None:
        self._flow = flow
        self._runtime = runtime

    def __getitem__(self, name: str) -> object:
        return compile_typed_value(self._flow.vars[name]).render({}, self._runtime)

    def __iter__(self) -> Iterator[str]:
        return iter(self._flow.vars)

    def __len__(self) -> int:
        return len(self._flow.vars)


def event_value(event: Event) -> dict[str, object]:
    """Return an event as templates see it."""
    return {
        "Name": event.name,
        "Payload": event.payload,
        "Pack": {
            "Id": pack_id(event.pack, event.labels),
            "Name": event.pack,
            "Labels": event.labels,
        },
        "CreatedAt": event.received_at,
        "ReceivedAt": event.received_at,
    }


def step_value(run: StepRun) -> dict[str, object]:
    """Return an entry of `Steps`: a step with a result."""
    return {
        "Payload": run.payload,
        "Event": None if run.result is None else run.result.name,
        "State": run.state,
        "Input": run.input,
        "StartedAt": run.started_at,
        "FinishedAt": run.finished_at,
    }


def action_value(action: Action | None) -> dict[str, object] | None:
    """Return `Previous`: a finished round like an entry of `Steps`; null before the first."""
    if action is None or action.result is None:
        return None
    return {
        "Payload": action.result.payload,
        "Event": action.result.name,
        "State": action.outcome,
        "Input": action.input,
        "StartedAt": action.created_at,
        "FinishedAt": action.finished_at,
    }


def keys_equal(one: Key, other: Key) -> bool:
    """Return whether two keys are equal by type and value; null, lists and maps equal nothing.

    1 and 1.0 are the same number; true is not 1, and "1" is not 1.
    """
    return _kind(one) is not None and _kind(one) == _kind(other) and one == other


def _kind(key: Key) -> str | None:
    if isinstance(key, bool):
        return "boolean"
    if isinstance(key, int | float):
        return "number"
    return "text" if isinstance(key, str) else None
