"""Faults that are planted into a server on purpose, to prove that a run finds them.

Each is a function that gets the store when the server makes it, of any kind, and breaks it or
another part of the process.
"""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from msgspec.structs import replace

from flyteops.engine import evaluation, join
from flyteops.engine.compiled import CompiledFlow
from flyteops.engine.completion import rule_on_result
from flyteops.engine.join import StepStatus
from flyteops.errors import FlyteError
from flyteops.model import (
    ActionSnapshot,
    ActionState,
    Dependencies,
    Evaluation,
    Event,
    PackRef,
    RoutingKey,
    Step,
)
from flyteops.service import service
from flyteops.service.flow import FlowRegistry
from flyteops.storage.base import Claimed, Decide, ProcessedTimers, Store, TimerRules
from flyteops.storage.query import Purged, Retention
from flyteops.storage.sqlite import store as sqlite
from flyteops.transition import (
    DueSchedule,
    FailAction,
    LateResult,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
)

LOGGER = logging.getLogger("flyte.planted")

NEVER = datetime(9999, 1, 1, tzinfo=UTC)

ONE_IN = 20
"""The rate, one in this number, of faults in operations that a server does all the time."""


def put_in_place(store: Store, **verbs: Callable[..., Any]) -> None:
    """Replace verbs of a store; a result that claims uses them as well."""
    vars(store).update(verbs, finish_and_claim=partial(Store.finish_and_claim, store))


def is_unlucky(identifier: str, one_in: int = ONE_IN) -> bool:
    """Return whether the fault applies to this id: the same each time, on every server."""
    return crc32(identifier.encode()) % one_in == 0


# ------------------------------------------------------------------------------------------- events


def acknowledge_early(store: Store) -> None:
    """Answer before anything is written."""
    record = store.record
    writing = set[asyncio.Task[None]]()

    async def later(event: Event, outcome: Evaluation, key: str | None) -> None:
        await asyncio.sleep(0.5)
        with contextlib.suppress(FlyteError):  # only the lost event shows this fault
            await record(event, outcome, key=key)

    async def early(event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        task = asyncio.create_task(later(event, outcome, key))
        writing.add(task)
        task.add_done_callback(writing.discard)
        return event.event_id

    put_in_place(store, record=early)


def forget_keys(store: Store) -> None:
    """Accept every event as a new one."""
    record = store.record

    async def anew(event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        return await record(event, outcome)

    put_in_place(store, record=anew)


def repeat_deliveries(store: Store) -> None:
    """Accept every call of a hook as a new one."""
    record = store.record

    async def anew(event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        return await record(event, outcome, key=None if event.pack.name == "Webhook" else key)

    put_in_place(store, record=anew)


def write_carelessly(store: Store) -> None:
    """Store events and their outcomes one after the other, in two transactions."""
    record = store.record

    async def in_two(event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        if key is not None:
            await record(event, Evaluation(), key=key)
            await asyncio.sleep(0.05)
        await record(
            Event(f"{event.event_id}-2", event.name, event.pack, event.payload, event.received_at),
            outcome,
        )
        return event.event_id

    put_in_place(store, record=in_two)


def mix_versions(_store: Store) -> None:
    """Continue executions by the current version of their flow."""
    version = FlowRegistry.version

    def current(self: FlowRegistry, name: str, uuid: str) -> CompiledFlow | None:
        return self.find_current(name) or version(self, name, uuid)

    FlowRegistry.version = current  # type: ignore[method-assign]


# ---------------------------------------------------------------------------------------- hand-outs


def hand_out_twice(store: Store) -> None:
    """Hand out some actions a second time."""
    claim, again, count = store.claim, list[Claimed](), itertools.count(1)

    async def twice(pack: PackRef, at: datetime, **options: Any) -> Sequence[Claimed]:
        if again:
            return [again.pop()]
        claimed = await claim(pack, at, **options)
        again.extend(each for each in claimed if next(count) % ONE_IN == 0)
        return claimed

    put_in_place(store, claim=twice)


def leak_hand_backs(store: Store) -> None:
    """Leave actions that a pack did not receive with that pack, in the store and above it."""
    claim = store.claim

    async def whole(pack: PackRef, at: datetime, **options: Any) -> Sequence[Claimed]:
        return await asyncio.shield(asyncio.ensure_future(claim(pack, at, **options)))

    async def keep(_action_id: str, _at: datetime, _check: object, *, counts: bool) -> RoutingKey:
        return RoutingKey("nobody", {}, "nothing")

    put_in_place(store, claim=whole, release=keep)


def ignore_delays(store: Store) -> None:
    """Hand out delayed actions at once."""
    _change_delays(store, None, one_in=2)


def keep_delays_for_ever(store: Store) -> None:
    """Never hand out some of the delayed actions."""
    _change_delays(store, NEVER, one_in=4)


def _change_delays(store: Store, not_before: datetime | None, *, one_in: int) -> None:
    record = store.record

    async def changed(event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        actions = tuple(
            replace(each, not_before=not_before)
            if each.not_before and is_unlucky(each.action_id, one_in)
            else each
            for each in outcome.actions
        )
        return await record(event, replace(outcome, actions=actions), key=key)

    put_in_place(store, record=changed)


# ------------------------------------------------------------------------------------------ results


def lose_continuations(store: Store) -> None:
    """Store some results without their continuations."""
    finish = store.finish

    async def cut_off(
        action_id: str, result: Event, decide: Decide
    ) -> Evaluation | LateResult | None:
        def cut(progress: ActionSnapshot) -> Evaluation | LateResult | None:
            ruling = decide(progress)
            return (
                Evaluation() if isinstance(ruling, Evaluation) and is_unlucky(action_id) else ruling
            )

        return await finish(action_id, result, cut)

    put_in_place(store, finish=cut_off)


def drop_results(store: Store) -> None:
    """Acknowledge some results and ignore them."""
    finish = store.finish

    async def drop(action_id: str, result: Event, decide: Decide) -> Evaluation | LateResult | None:
        return Evaluation() if is_unlucky(action_id) else await finish(action_id, result, decide)

    put_in_place(store, finish=drop)


def ignore_fencing(_store: Store) -> None:
    """Apply a result of an attempt that was lost while the action is with another pack."""

    def rule(event: Event, progress: ActionSnapshot, lease: str | None) -> LateResult | bool:
        ruling = rule_on_result(event, progress, lease)
        return (
            True
            if isinstance(ruling, LateResult) and progress.state is ActionState.PENDING
            else ruling
        )

    vars(service)["rule_on_result"] = rule


def drop_late_results(store: Store) -> None:
    """Refuse late results correctly, but do not keep them."""
    finish = store.finish

    async def drop(action_id: str, result: Event, decide: Decide) -> Evaluation | LateResult | None:
        late: list[LateResult] = []

        def nothing_if_late(progress: ActionSnapshot) -> Evaluation | LateResult | None:
            ruling = decide(progress)
            if not isinstance(ruling, LateResult):
                return ruling
            late.append(ruling)
            return None

        return await finish(action_id, result, nothing_if_late) or (late[-1] if late else None)

    put_in_place(store, finish=drop)


def join_early(_store: Store) -> None:
    """Begin a step that waits for several when one of them has ended."""
    _change_joins(lambda _step, standing: bool(standing.finished))


def never_join(_store: Store) -> None:
    """Never begin a step that waits for several."""
    _change_joins(lambda _step, _standing: False)


def _change_joins(may_begin: Callable[[Step, StepStatus], bool]) -> None:
    find_unmet_dependency = join.find_unmet_dependency

    def changed(
        step: Step, wanted: Dependencies, standing: StepStatus
    ) -> tuple[join.UnmetReason, str] | None:
        if not wanted.all or step.id in standing.ran:
            return find_unmet_dependency(step, wanted, standing)
        return None if may_begin(step, standing) else ("dependsOn", "a planted fault")

    vars(evaluation)["find_unmet_dependency"] = changed


# --------------------------------------------------------------------------------------------- time


def never_look_at_the_time(store: Store) -> None:
    """Never process lost actions."""

    async def do_nothing(*_: object, **__: object) -> ProcessedTimers:
        return ProcessedTimers(0, None)

    put_in_place(store, process_due=do_nothing)


class ChangedRules:
    """The rules of a server, with some changed firings of schedules."""

    def __init__(
        self, rules: TimerRules, change: Callable[[DueSchedule, ScheduledRun], ScheduledRun]
    ) -> None:
        self.on_timeout: Callable[[ActionSnapshot], RetryAction | NeedsOperator | FailAction] = (
            rules.on_timeout
        )
        self._due = rules.on_due
        self._change = change

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        """Decide on a due step, with changes for some times."""
        firing = self._due(step)
        return self._change(step, firing) if step.due_at.minute % 7 == 0 else firing


def skip_firings(store: Store) -> None:
    """Skip some times of schedules."""
    _change_firings(store, lambda _step, firing: ScheduledRun(None, Evaluation(), firing.next_at))


def fire_twice(store: Store) -> None:
    """Fire for some times of schedules, and be due for the same time again."""
    fired = set[tuple[str, datetime]]()

    def repeat(step: DueSchedule, firing: ScheduledRun) -> ScheduledRun:
        known = (step.flow_name, step.due_at)
        if known in fired:
            return firing
        fired.add(known)
        return replace(firing, next_at=step.due_at)

    _change_firings(store, repeat)


def _change_firings(
    store: Store, change: Callable[[DueSchedule, ScheduledRun], ScheduledRun]
) -> None:
    advance = store.process_due

    async def changed(at: datetime, rules: TimerRules, **options: Any) -> ProcessedTimers:
        return await advance(at, ChangedRules(rules, change), **options)

    put_in_place(store, process_due=changed)


def remove_unfinished(store: Store) -> None:
    """Remove old data, even if it has not ended."""
    purge = store.purge

    async def whatever(what: Retention, *, limit: int = 1000) -> Purged:
        return await purge(replace(what, before=what.finished_before), limit=limit)

    put_in_place(store, purge=whatever)


# --------------------------------------------------------------------------------------- the server


def answer_500(store: Store) -> None:
    """Answer one request in a hundred with 500 after all the work was done."""
    for name in ("record", "claim", "finish"):
        put_in_place(store, **{name: _failing(getattr(store, name))})


def _failing(verb: Callable[..., Any]) -> Callable[..., Any]:
    async def fail_now_and_then(*values: object, **options: object) -> object:
        result = await verb(*values, **options)
        if random.random() < 0.01:  # noqa: S311 - not a secret
            raise RuntimeError("a planted fault")
        return result

    return fail_now_and_then


def log_tracebacks(store: Store) -> None:
    """Fail now and then in a place that no client sees."""
    advance = store.process_due

    async def noisy(*values: Any, **options: Any) -> ProcessedTimers:
        try:
            raise RuntimeError("a planted fault")  # noqa: TRY301 - for its traceback
        except RuntimeError:
            LOGGER.exception("Something failed")
        return await advance(*values, **options)

    put_in_place(store, process_due=noisy)


def never_sync(_store: Store) -> None:
    """Let SQLite sync nothing to disk."""
    _set_synchronous("OFF")


def sync_at_checkpoints_only(_store: Store) -> None:
    """Let SQLite sync the log when it is copied into the database, not with each commit."""
    _set_synchronous("NORMAL")


def _set_synchronous(mode: str) -> None:
    prepare = vars(sqlite)["prepare"]

    def careless(path: Path) -> object:
        connection = prepare(path)
        connection.execute(f"PRAGMA synchronous = {mode}")
        return connection

    vars(sqlite)["prepare"] = careless


PLANTED: Mapping[str, Callable[[Store], None]] = {
    "acknowledges-early": acknowledge_early,
    "answers-500": answer_500,
    "drops-late-results": drop_late_results,
    "drops-results": drop_results,
    "fires-twice": fire_twice,
    "forgets-keys": forget_keys,
    "hands-out-twice": hand_out_twice,
    "ignores-delays": ignore_delays,
    "ignores-fencing": ignore_fencing,
    "joins-early": join_early,
    "keeps-delays-for-ever": keep_delays_for_ever,
    "leaks-hand-backs": leak_hand_backs,
    "logs-tracebacks": log_tracebacks,
    "loses-continuations": lose_continuations,
    "mixes-versions": mix_versions,
    "never-joins": never_join,
    "never-looks-at-the-time": never_look_at_the_time,
    "removes-unfinished": remove_unfinished,
    "repeats-deliveries": repeat_deliveries,
    "skips-firings": skip_firings,
    "writes-carelessly": write_carelessly,
}
"""The faults that a run finds on every store, by name."""

CARELESS: Mapping[str, Callable[[Store], None]] = {
    "never-syncs": never_sync,
    "syncs-at-checkpoints-only": sync_at_checkpoints_only,
}
"""The faults that only a power failure shows."""

FAULTS = {**PLANTED, **CARELESS}
