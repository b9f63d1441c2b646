"""Results of actions: success or failure, another attempt, or all that follows from them."""

from datetime import datetime, timedelta

from flyteops.definition import Retry, StepState
from flyteops.errors import ConflictError, LateError, TemplateError
from flyteops.flow.policy import ATTEMPTS
from flyteops.model import FATAL, SERVER
from flyteops.simulator.continuation import continue_execution
from flyteops.simulator.record import Action, Attempt, Event, Execution, Timer, Verdict
from flyteops.simulator.rendering import Renderer
from flyteops.simulator.running import (
    action_done,
    command_of,
    hand_out,
    renderer_of,
    time_out,
)
from flyteops.simulator.starting import publish
from flyteops.simulator.world import World
from flyteops.timeformat import parse_duration

BACKOFF_FACTOR = 2


def take(world: World, action: Action) -> Attempt:
    """Hand an action out: a new attempt with a lease of its own."""
    attempt = Attempt(
        number=len(action.attempts) + 1, lease=world.new_id("lease"), taken_at=world.now
    )
    action.attempts.append(attempt)
    action.state = "PENDING"
    if action.silence is not None and not action.for_server:
        attempt.lost_at = world.now + action.silence
        _watch(world, action, attempt.number, attempt.lost_at)
    return attempt


def _watch(world: World, action: Action, attempt: int, lost_at: datetime) -> None:
    world.add_timer(
        Timer(
            kind="lost",
            due_at=lost_at,
            execution_id=action.execution_id,
            subject=action.action_id,
            attempt=attempt,
        )
    )


def _view(world: World, action: Action, event: Event) -> Renderer:
    execution = world.execution(action.execution_id)
    run = execution.steps[action.step_id]
    renderer = renderer_of(world, execution, run, event, action.index, len(action.attempts))
    if action.index is not None:
        renderer.with_item(action.index, action.item, None)
    return renderer


def new_result(world: World, action: Action, event: Event) -> Event:
    """Record the result of an action; no flow sees it before it is accepted."""
    event.hidden = True
    return world.record(
        event, execution=world.execution(action.execution_id), step_id=action.step_id
    )


def complete(world: World, action: Action, given: Event, lease: str | None) -> Event:
    """Accept the result of a pack and return its event.

    The same again has no effect. A result of an attempt that was lost, or of a cancelled action, is
    kept, and nothing follows from it.
    """
    attempt = _attempt(world, action, lease)
    if attempt.result is not None:
        if (attempt.result.name, attempt.result.payload) != (given.name, given.payload):
            raise ConflictError("Another result of this action was accepted already.")
        return attempt.result
    if attempt.lost or not action.is_open:
        attempt.result = new_result(world, action, given)
        action.late_results.append(attempt.result)
        _decide_late(world, action, attempt.result)
        if attempt.lost:
            raise LateError
        return attempt.result
    event = new_result(world, action, given)
    settle(world, action, event, kind="failed")
    return event


def _decide_late(world: World, action: Action, event: Event) -> None:
    execution = world.execution(action.execution_id)
    if execution.state == "CANCELLED":
        verdict: Verdict = ("skipped", "cancelled", "the execution was cancelled")
    elif execution.is_over:
        verdict = ("skipped", "ended", f"the execution is {execution.state}")
    else:
        verdict = ("skipped", "timedOut", "the result came too late")
    world.decide(event, execution.flow, action.step_id, verdict, execution)


def _attempt(world: World, action: Action, lease: str | None) -> Attempt:
    """Return the attempt with a lease; without `retry` the lease may be left out."""
    if not action.attempts:
        raise ConflictError("No pack has taken this action.")
    run = world.execution(action.execution_id).steps[action.step_id]
    if lease is None and command_of(run).retry is None:
        return action.attempts[-1]
    for attempt in action.attempts:
        if attempt.lease == lease:
            return attempt
    raise ConflictError("The lease does not belong to this action; send that of the hand-out.")


def judge(world: World, action: Action, event: Event) -> StepState:
    """Return the state that a result gives: `FATAL` always means failure, else `failsWhen` decides.

    Without `failsWhen` it has failed by its mark, or by its name, as its pack declares.
    """
    run = world.execution(action.execution_id).steps[action.step_id]
    fails_when = command_of(run).fails_when
    if event.name == FATAL:
        return "FAILED"
    if fails_when is not None:
        try:
            failed = _view(world, action, event).truth(fails_when, "command.failsWhen")
        except TemplateError:
            failed = True
        return "FAILED" if failed else "SUCCEEDED"
    by_name = (
        event.name in world.setting.failure_names or (event.pack, event.name) in world.failures
    )
    return "FAILED" if event.failure or by_name else "SUCCEEDED"


def settle(
    world: World,
    action: Action,
    event: Event,
    *,
    kind: str | None = None,
    state: StepState | None = None,
) -> None:
    """Give an action a result: another attempt, or the step goes on with it.

    `kind` is ``failed`` or ``lost`` if the result may be retried. `state` is that of results that
    the server makes itself and that nothing judges.
    """
    event.state = state or judge(world, action, event)
    if action.state in {"PENDING", "UNKNOWN"} and kind != "lost":
        action.attempts[-1].result = event
    if event.state == "FAILED" and kind is not None and _retries(world, action, event, kind):
        return
    action.result, action.outcome, action.finished_at = event, event.state, world.now
    action.state = "FATAL" if event.name == FATAL else "SUCCESS"
    publish(world, event)
    execution = world.execution(action.execution_id)
    action_done(world, execution, action, event)
    continue_execution(world, execution)


def _retry_policy(world: World, action: Action) -> Retry | None:
    """Return the policy; `onLost: retry` alone is one for lost commands, with the defaults."""
    run = world.execution(action.execution_id).steps[action.step_id]
    command = command_of(run)
    if command.retry is None and command.on_lost == "retry":
        return Retry(attempts=ATTEMPTS)
    return command.retry


def _retries(world: World, action: Action, event: Event, kind: str) -> bool:
    """Make the action available again if its policy wants it; `when` must be true for that."""
    retry = _retry_policy(world, action)
    if retry is None or kind not in retry.on or len(action.attempts) >= retry.attempts:
        return False
    try:
        if not _view(world, action, event).truth(retry.when, "command.retry.when"):
            return False
    except TemplateError:
        return False
    action.state = "NEW"
    action.due_at = world.now + backoff(retry, len(action.attempts))
    hand_out(world, action)
    return True


def backoff(retry: Retry, attempt: int) -> timedelta:
    """Return the wait after an attempt: doubled each time, up to the maximum.

    The server takes off up to half of it at random; the model waits the whole of it.
    """
    wait: timedelta = parse_duration(retry.backoff) * BACKOFF_FACTOR ** min(attempt - 1, 30)
    longest = parse_duration(retry.max_backoff)
    return longest if wait > longest else wait


# ------------------------------------------------------------------------------------------ timers


def lose(world: World, action: Action, attempt_number: int) -> None:
    """Decide the fate of an action whose pack was silent for too long.

    It is retried, or an operator is asked (`onLost: ask`), or it gets the result `FATAL`.
    """
    if action.state != "PENDING" or len(action.attempts) != attempt_number:
        return
    attempt = action.attempts[-1]
    if attempt.lost_at is not None and attempt.lost_at > world.now:
        _watch(world, action, attempt.number, attempt.lost_at)
        return
    payload = {
        "reason": "lost",
        "message": f"no pack {action.pack!r} reported a result in time",
        "actionId": action.action_id,
        "attempts": len(action.attempts),
    }
    lost = Event(pack=action.pack, name=FATAL, payload=payload, labels=action.labels, failure=True)
    event = new_result(world, action, lost)
    attempt.lost = True
    run = world.execution(action.execution_id).steps[action.step_id]
    if command_of(run).on_lost == "ask":
        if not _retries(world, action, event, "lost"):
            attempt.lost = False
            action.state = "UNKNOWN"
        return
    settle(world, action, event, kind="lost")


def expire(world: World, action: Action, attempt_number: int) -> None:
    """Give an action that no pack took in time the result `Expired`."""
    if action.state != "NEW" or len(action.attempts) != attempt_number:
        return
    message = f"no pack {action.pack!r} took it in time"
    expired = Event(pack=SERVER, name="Expired", payload={"message": message}, failure=True)
    event = new_result(world, action, expired)
    settle(world, action, event, state="FAILED")
    execution = world.execution(action.execution_id)
    verdict: Verdict = ("failed", "expired", message)
    world.decide(event, execution.flow, action.step_id, verdict, execution)


def end_step_in_time(world: World, execution: Execution, step_id: str, message: str) -> None:
    """Give a step that is still open the result `TimedOut`."""
    run = execution.steps[step_id]
    if not run.is_open:
        return
    time_out(world, execution, run, message)
    continue_execution(world, execution)


def heartbeat(world: World, action: Action, lease: str | None) -> None:
    """Extend the time in which a pack must be heard of; raise `ConflictError` if it shall stop."""
    attempt = _attempt(world, action, lease)
    if action.state != "PENDING" or attempt is not action.attempts[-1]:
        raise ConflictError(f"The action is {action.state}; stop working on it.")
    if action.silence is not None:
        attempt.lost_at = world.now + action.silence
