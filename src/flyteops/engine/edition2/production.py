"""The actions of a step: labels, input and times of its command."""

from datetime import datetime

import msgspec

from flyteops.engine.edition2.document import StepRecord, raw
from flyteops.engine.edition2.draft import Draft, context_of
from flyteops.engine.edition2.outcome import NewTask, NewTimer, PlannedAction
from flyteops.engine.edition2.plan import PlannedCommand, PlannedStep
from flyteops.engine.edition2.rendering import StepRenderer
from flyteops.errors import TemplateRenderError
from flyteops.model import SERVER, JsonValue
from flyteops.name import label_problems


def make_action(
    draft: Draft,
    step: PlannedStep,
    *,
    index: int | None = None,
    item: JsonValue = None,
    previous: object = None,
) -> PlannedAction:
    """Render the labels and the input of the command, and make an action of them.

    Commands of the server are tasks; their input must not have secrets.
    """
    record, command = draft.steps[step.id], _command(step)
    assert record.event is not None  # noqa: S101 - a step without a result has it
    renderer = draft.renderer(step.id, record.event, context_of(record), index)
    if index is not None:
        renderer.scope.update(Index=index, Item=item, Previous=previous)
    labels = _labels(command, renderer)
    value, masked = renderer.input(command.input, secrets=_is_for_pack(command))
    action = _timed(draft, command, renderer, record)
    action = msgspec.structs.replace(
        action,
        step_id=step.id,
        pack_labels=labels,
        input=msgspec.json.encode(value),
        index=index,
    )
    draft.ctx.evaluation.end_step()
    draft.actions.append(action)
    draft.change(step.id, open=record.open + 1)
    if index is None and draft.plan.keeps(step.id, "Input"):
        draft.change(step.id, input=raw(masked))
    if action.pack_name == SERVER:
        call_server(draft, step.id, action.action_id, action.not_before)
    return action


def _is_for_pack(command: PlannedCommand) -> bool:
    return command.command.pack_name != SERVER


def _labels(command: PlannedCommand, renderer: StepRenderer) -> dict[str, str]:
    labels = {key: renderer.text(value) for key, value in command.labels.items()}
    for problem in label_problems("command.packLabels", labels):
        raise TemplateRenderError(str(problem))
    return labels


def _timed(
    draft: Draft, command: PlannedCommand, renderer: StepRenderer, record: StepRecord
) -> PlannedAction:
    """Return an action with its times, but without its step, labels and input."""
    definition, is_for_pack = command.command, _is_for_pack(command)
    silence = expires = None
    if command.silence is not None:
        silence = renderer.duration(command.silence, "command.timeout")
    if command.expires is not None:
        expires = renderer.duration(command.expires, "command.expires")
    starts_at = draft.now if record.not_before is None else max(draft.now, record.not_before)
    return PlannedAction(
        action_id=draft.ctx.evaluation.new_id(),
        step_id="",
        name=definition.name,
        pack_name=definition.pack_name,
        pack_labels={},
        input=b"",
        created_at=draft.now,
        not_before=starts_at if starts_at > draft.now else None,
        expires_at=starts_at + expires if is_for_pack and expires is not None else None,
        expires=expires if is_for_pack else None,
        timeout=silence if is_for_pack else None,
        needs_lease=definition.retry is not None,
    )


def call_server(draft: Draft, step_id: str, action_id: str, not_before: datetime | None) -> None:
    """Make a command of the server a task, at once or at a later time."""
    if not_before is not None and not_before > draft.now:
        draft.timers.append(NewTimer("command", step_id, not_before, action_id=action_id))
        draft.change(step_id, has_timer=True)
    else:
        draft.tasks.append(NewTask("command", draft.document.execution_id, action_id))


def _command(step: PlannedStep) -> PlannedCommand:
    assert step.command is not None  # noqa: S101 - only steps with a command make actions
    return step.command
