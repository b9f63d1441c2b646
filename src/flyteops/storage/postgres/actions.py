"""The changes to actions, in statements that are each a transaction and process many at a time.

Each locks executions in the order of their numbers, so that two never deadlock.

Nothing is locked while the consequences of a result are decided. An execution has a version that is
increased whenever one of its actions is created or ends: a decision is written only if the version
is still the one that it was based on.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

import asyncpg

from flyteops.model import ActionSnapshot, Evaluation, Event, Lease, PackRef, Sibling, has_labels
from flyteops.storage import rules
from flyteops.storage.base import KEPT_KEYS, Claimed, lease_token
from flyteops.storage.finish import FinishRequest
from flyteops.storage.postgres.driver import Connection, Row
from flyteops.storage.postgres.pool import LOST
from flyteops.storage.postgres.recent import ActionRow, RecentActions
from flyteops.storage.row import (
    MICROSECOND,
    STATES,
    created_column,
    decode_labels,
    decode_strings,
    encode_decisions,
    encode_json,
    event_of,
    failure_column,
    listing_keys,
    read_queue,
    subsets,
    to_instant,
    to_microseconds,
    to_text,
)
from flyteops.storage.statements import load_statements
from flyteops.storage.undelivered import ClaimTokens
from flyteops.transition import LateResult

SQL = load_statements("flyteops.storage.postgres", "actions")

MAX_SUBSETS = 64
"""The maximum of label sets looked up one by one: all that a pack with six labels may serve."""

LOOKS = 5
"""The number of tries of a claim when others were faster each time."""

Claims = tuple[str, str]
"""Two statements: one that skips rows locked by others, and one that waits for them."""

CLAIMED_WITH = SQL.claimed_with

CLAIM_READABLE: Claims = SQL.claim_readable, SQL.claim_readable_waiting
CLAIM_LISTED: Claims = SQL.claim_listed, SQL.claim_listed_waiting
CLAIM_BY_LABELS: Claims = SQL.claim_by_labels, SQL.claim_by_labels_waiting
CLAIM_OF_COMMAND: Claims = SQL.claim_of_command, SQL.claim_of_command_waiting


class EventInsert(NamedTuple):
    """An event to be stored with its consequences, and the key that it came with."""

    event: Event
    outcome: Evaluation
    key: str | None = None


async def record(
    connection: Connection,
    entries: Sequence[EventInsert],
    *,
    store: int | None = None,
    is_again: bool = False,
) -> list[str | None]:
    """See `Store.record`; stores all entries or none.

    When the store does not have this number, none is stored, and each result is None. `is_again`:
    it may have been done before, for these very events.
    """
    done = await _stored(connection, entries) if is_again else set()
    if not done:
        try:
            values = (
                *_event_columns(entries),
                *_action_columns(entries),
                [entry.key for entry in entries],
                store,
                KEPT_KEYS // MICROSECOND,
            )
            done = {
                entries[place - 1].event.event_id
                for (place,) in await connection.fetch(SQL.record, *values)
            }
        except asyncpg.UniqueViolationError:
            # A statement begun on the lost connection may have been completed only now.
            done = await _stored(connection, entries) if is_again else set()
            if not done:
                raise
    known = [entry.key for entry in entries if entry.event.event_id not in done]
    earlier: dict[str | None, str] = {}
    if known:
        rows = await connection.fetch(SQL.find_keys, known)
        earlier = dict(map(tuple, rows))
    return [
        entry.event.event_id if entry.event.event_id in done else earlier.get(entry.key)
        for entry in entries
    ]


async def _stored(connection: Connection, entries: Sequence[EventInsert]) -> set[str]:
    event_ids = [entry.event.event_id for entry in entries]
    rows = await connection.fetch(SQL.stored_events, event_ids)
    return {event_id for (event_id,) in rows}


def _event_columns(entries: Sequence[EventInsert]) -> tuple[Sequence[object], ...]:
    """Return the events by columns, and the keys under which each is listed."""
    events = [entry.event for entry in entries]
    outcomes = [entry.outcome for entry in entries]
    keys = [
        (key, place)
        for place, made in enumerate(outcomes, 1)
        for key in listing_keys(made.decisions, made.basis)
    ]
    return (
        [event.event_id for event in events],
        [event.name for event in events],
        [event.pack.id for event in events],
        [event.pack.name for event in events],
        [to_text(event.pack.labels) for event in events],
        [event.payload for event in events],
        [to_microseconds(event.received_at) for event in events],
        [created_column(event) for event in events],
        [failure_column(event) for event in events],
        [encode_decisions(made.decisions, made.basis) for made in outcomes],
        [len(entry.outcome.actions) for entry in entries],
        [key for key, _ in keys],
        [place for _, place in keys],
    )


def _action_columns(
    entries: Sequence[EventInsert], own: Sequence[str | None] | None = None
) -> tuple[Sequence[object], ...]:
    """Return actions by columns, and executions to begin or continue, without each `own`."""
    places = [place for place, entry in enumerate(entries, 1) for _ in entry.outcome.actions]
    actions = [action for entry in entries for action in entry.outcome.actions]
    due = [
        None if action.not_before is None else to_microseconds(action.not_before)
        for action in actions
    ]
    begun = {
        (place, action.correlation_id): action
        for place, action in zip(places, actions, strict=True)
        if own is None or action.correlation_id != own[place - 1]
    }
    return (
        places,
        [action.action_id for action in actions],
        [action.correlation_id for action in actions],
        [action.step_index for action in actions],
        [action.step_id for action in actions],
        [action.pack_name for action in actions],
        [to_text(action.pack_labels) for action in actions],
        [action.name for action in actions],
        [rules.initial_state(at) for at in due],
        [encode_json(action.context) for action in actions],
        [action.input for action in actions],
        [None if action.timeout is None else action.timeout // MICROSECOND for action in actions],
        due,
        [place for place, _ in begun],
        [correlation_id for _, correlation_id in begun],
        [action.flow_name for action in begun.values()],
        [action.flow_uuid for action in begun.values()],
    )


class ClaimRequest(NamedTuple):
    """The request of a claim; its `tokens` distinguish it from all others."""

    pack: PackRef
    at: datetime
    command: str | None
    limit: int
    seed: bytes
    tokens: ClaimTokens

    @property
    def batch_key(self) -> tuple[str, str, str | None]:
        """The batch key: claims with equal keys share one statement."""
        return self.pack.id, to_text(self.pack.labels), self.command


async def claim(
    connection: Connection,
    requests: Sequence[ClaimRequest],
    *,
    recent: RecentActions,
    is_again: bool,
) -> list[list[Claimed]]:
    """See `Store.claim`; those of one kind at once, and the first caller gets the oldest."""
    asked = requests[0]._replace(
        limit=sum(each.limit for each in requests), at=max(each.at for each in requests)
    )
    found = iter(await _claim(connection, asked, recent, is_again=is_again))
    return [list(islice(found, each.limit)) for each in requests]


async def _claim(
    connection: Connection, asked: ClaimRequest, recent: RecentActions, *, is_again: bool
) -> list[Claimed]:
    now = to_microseconds(asked.at)
    token, before = asked.tokens.next()
    if is_again:
        earlier = await connection.fetch(SQL.claimed_before, now, before, token)
        if earlier:
            return [_claimed(row, now, asked.seed) for row in earlier]
    pack = asked.pack
    labels = pack.labels
    if 2 ** len(labels) <= MAX_SUBSETS:
        claims = CLAIM_BY_LABELS if asked.command is None else CLAIM_OF_COMMAND
        own = [to_text(each) for each in subsets(labels)]
        rows = await _claim_from(connection, claims, asked, token, own, asked.command)
    else:
        rows = await _claim_readable(connection, asked, token)
    taken = [row for row in rows if row[-1]]
    for row in taken:
        recent.take(row, token, now, asked.seed)
    return [_claimed(row, now, asked.seed) for row in taken]


async def _claim_readable(connection: Connection, asked: ClaimRequest, token: str) -> Sequence[Row]:
    """Claim for a pack with many labels, by comparing them with those of all waiting actions."""
    try:
        return await _claim_from(
            connection, CLAIM_READABLE, asked, token, to_text(asked.pack.labels), asked.command
        )
    except asyncpg.DataError:
        # One queue that cannot be read must not keep a pack from all others.
        kinds = await _readable_kinds(connection, asked)
        labels, commands = [kind[0] for kind in kinds], [kind[1] for kind in kinds]
        return await _claim_from(connection, CLAIM_LISTED, asked, token, labels, commands)


async def _claim_from(
    connection: Connection, claims: Claims, asked: ClaimRequest, token: str, *own: object
) -> Sequence[Row]:
    skipping, waiting = claims
    now = to_microseconds(asked.at)
    values = (asked.pack.name, *own, asked.limit, now, token, asked.seed, asked.pack.id)
    rows: Sequence[Row] = await connection.fetch(skipping, *values)
    for _ in range(LOOKS):
        if not rows or rows[0][-1]:
            break
        # All waiting actions are locked by others, which may take something else: now wait for
        # them.
        rows = await connection.fetch(waiting, *values)
    return rows


async def _readable_kinds(connection: Connection, asked: ClaimRequest) -> Sequence[tuple[str, str]]:
    """Return the labels and commands that a pack may take, without help of the database."""
    kinds: list[tuple[str, str]] = []
    for labels, command in await connection.fetch(SQL.list_kinds, asked.pack.name):
        wanted = read_queue(asked.pack.name, labels, command)
        if asked.command in (None, command) and has_labels(asked.pack.labels, wanted):
            kinds.append((labels, command))
    return kinds


def _claimed(row: Row, now: int, seed: bytes) -> Claimed:
    action_id, command, input_, attempt, timeout, revision, *_ = row
    claimed = Claimed(action_id, command, input_, attempt, revision=revision)
    return rules.with_lease(claimed, timeout, now, seed)


class Completion(NamedTuple):
    """An action as it was found, and the result that ends it."""

    found: ActionRow
    result: Event
    outcome: Evaluation


async def finish(
    connection: Connection,
    requests: Sequence[FinishRequest],
    *,
    recent: RecentActions,
    is_again: bool,
) -> list[bool | Exception]:
    """Apply results as `Store.finish` does; see their decisions.

    Return False for one where another server was faster, and which must be decided again.
    """
    completions = {} if is_again else _remembered(requests, recent)
    rest = [each for place, each in enumerate(requests) if place not in completions]
    found = await _find_all(connection, [each.action_id for each in rest])
    answers: list[bool | Exception] = []
    for place, request in enumerate(requests):
        if place in completions:
            answers.append(True)
            continue
        try:
            completion = await _decide(
                connection, request, found.get(request.action_id), is_again=is_again
            )
        except (*LOST, asyncpg.PostgresError):
            raise
        except Exception as error:  # noqa: BLE001 - any error of a decision goes to its caller
            answers.append(error)
            continue
        if completion is not None:
            completions[place] = completion
        answers.append(True)
    if completions:
        for place, is_done in zip(
            completions, await end(connection, list(completions.values())), strict=True
        ):
            answers[place] = is_done
    return answers


def _remembered(requests: Sequence[FinishRequest], recent: RecentActions) -> dict[int, Completion]:
    """Decide results of actions as they were handed out; return those to be written, by place.

    Only a result that ends its action is guarded against changes since: all others are decided
    upon the database.
    """
    completions: dict[int, Completion] = {}
    for place, request in enumerate(requests):
        known = recent.pop(request.action_id)
        decision = None if known is None else request.decide_early(known.progress)
        if known is not None and decision is not None:
            completions[place] = Completion(known, request.result, decision)
    return completions


async def _find_all(connection: Connection, action_ids: Sequence[str]) -> dict[str, ActionRow]:
    if not action_ids:
        return {}
    rows = await connection.fetch(SQL.find_all_by_id, action_ids)
    return {row["action_id"]: await found_of(connection, row) for row in rows}


async def _decide(
    connection: Connection, request: FinishRequest, found: ActionRow | None, *, is_again: bool
) -> Completion | None:
    """Return the completion of an action by the decision, None when nothing is left to be done."""
    found = rules.found(found, "action", request.action_id)
    known = found.progress.result
    if is_again and known is not None and known.event_id == request.result.event_id:
        return None
    decision = request.decide(found.progress)
    if decision is None:
        return None
    if isinstance(decision, LateResult):
        await connection.execute(
            SQL.late,
            *_event_columns([EventInsert(request.result, Evaluation())]),
            found.seq,
            decision.number,
        )
        return None
    rules.require_finishable(found.progress)
    return Completion(found, request.result, decision)


async def end(connection: Connection, completions: Sequence[Completion]) -> list[bool]:
    """End actions with their results.

    False, with nothing done, for one that has changed or whose execution has.
    """
    entries = [EventInsert(each.result, each.outcome) for each in completions]
    found = [each.found for each in completions]
    rows = await connection.fetch(
        SQL.finish,
        *_event_columns(entries),
        *_action_columns(entries, [each.progress.correlation_id for each in found]),
        [each.seq for each in found],
        [each.state for each in found],
        [each.attempt for each in found],
        [each.execution_seq for each in found],
        [each.version for each in found],
        [rules.final_state(each.result) for each in completions],
        [each.claim for each in found],
    )
    done = {place for (place,) in rows}
    return [place in done for place in range(1, len(completions) + 1)]


async def find(connection: Connection, action_id: str, *, locks: bool = False) -> ActionRow:
    """Return the current state of an action; raise `NotFoundError`."""
    row = await connection.fetchrow(SQL.lock_by_id if locks else SQL.find_by_id, action_id)
    return await found_of(connection, rules.found(row, "action", action_id))


async def find_seq(connection: Connection, seq: int) -> ActionRow | None:
    """Return the action with this number, locked; None if it no longer exists."""
    row = await connection.fetchrow(SQL.lock_by_seq, seq)
    return None if row is None else await found_of(connection, row)


async def found_of(connection: Connection, row: Row) -> ActionRow:
    """Return the found action, with its result and leases."""
    siblings = zip(row["step_ids"], row["step_indexes"], row["states"], strict=True)
    progress = ActionSnapshot(
        action_id=row["action_id"],
        name=row["command"],
        pack_name=row["pack_name"],
        pack_labels=decode_labels(row["labels"]),
        correlation_id=row["correlation_id"],
        flow_name=row["flow_name"],
        flow_uuid=row["flow_uuid"],
        step_id=row["step_id"],
        step_index=row["step_index"],
        context=decode_strings(row["context"]),
        state=STATES[row["state"]],
        siblings=tuple(
            [Sibling(step_id, index, STATES[state]) for step_id, index, state in siblings]
        ),
        result=await _result(connection, row["result_seq"]),
        attempt=row["attempt"],
        leases=()
        if row["timeout"] is None
        else await _leases(connection, row["seq"], row["action_id"]),
        timeout=None if row["timeout"] is None else timedelta(microseconds=row["timeout"]),
        due_at=None if row["due_at"] is None else to_instant(row["due_at"]),
        revision=row["revision"],
    )
    return ActionRow(
        row["seq"],
        row["execution_seq"],
        row["state"],
        row["attempt"],
        row["timeout"],
        row["version"],
        progress,
    )


async def _result(connection: Connection, seq: int | None) -> Event | None:
    if seq is None:
        return None
    row = await connection.fetchrow(SQL.event, seq)
    return None if row is None else event_of(row)


async def _leases(connection: Connection, seq: int, action_id: str) -> tuple[Lease, ...]:
    rows = await connection.fetch(SQL.leases, seq)
    return tuple(
        [
            Lease(number, lease_of(seed, lease, action_id, number), is_lost)
            for number, seed, lease, is_lost in rows
        ]
    )


def lease_of(seed: bytes, lease: str | None, action_id: str, number: int) -> str:
    """Return the lease of an attempt: that from another store, or one derived from the seed."""
    return lease_token(seed, action_id, number) if lease is None else lease
