"""What changes actions, in statements that are each a transaction of their own.

Nothing is locked while it is decided what follows from a result. An execution has a version that grows whenever one of its
actions is created or ends: what was decided is written only if the version is still the one that was looked at.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import FATAL, Event, Lease, NewAction, Outcome, PackRef, Progress, Sibling
from flyteops.ruling import Late
from flyteops.storage.base import KEPT_KEYS, Claimed, Decide, lease_token
from flyteops.storage.row import (
    LATER,
    MICROSECOND,
    STATES,
    UNFINISHED,
    decode_strings,
    encode_decisions,
    encode_json,
    event_of,
    to_instant,
    to_microseconds,
    to_text,
)

EVENT = "event_id, name, pack_id, pack_name, labels, payload, received_at, created_at"

NEW_EVENT = """
  INSERT INTO flyte_event
    (event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, action_seq, referrers, decisions)
"""

EVENT_VALUES = "SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::bigint, $8::text"

NEW_ACTIONS = """
  actions AS (
    INSERT INTO flyte_action (action_id, execution_seq, step_index, step_id, pack_name, labels, command, trigger_seq, state,
      since, states, context, input, timeout, due_at, wait)
    SELECT n.action_id, x.seq, n.step_index, n.step_id, n.pack_name, n.labels, n.command, e.seq, n.state, $7, 'NEW ' || $7,
      n.context, n.input, n.timeout, n.due_at,
      CASE WHEN n.due_at > $7 THEN n.due_at - $7 WHEN n.due_at IS NOT NULL THEN 0 END
    FROM unnest($11::text[], $12::text[], $13::int[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
        $19::bytea[], $20::bytea[], $21::bigint[], $22::bigint[])
      WITH ORDINALITY AS n (action_id, correlation_id, step_index, step_id, pack_name, labels, command, state, context, input,
        timeout, due_at, place)
    JOIN executions x USING (correlation_id) CROSS JOIN e
    ORDER BY n.place
  ),
  decided AS (INSERT INTO flyte_flow_event SELECT name, e.seq FROM unnest($10::text[]) AS name CROSS JOIN e)
"""
"""What the values are: 1 to 9 the event's and the decisions', 10 flows decided about, 11 to 22 actions, 23 to 25 executions."""

NEW_EXECUTIONS = """
    INSERT INTO flyte_execution (correlation_id, flow_name, flow_uuid, changed_at)
    SELECT n.*, $7
    FROM unnest($23::text[], $24::text[], $25::text[]) AS n (correlation_id, flow_name, flow_uuid) CROSS JOIN {guard}
    ORDER BY 1
    ON CONFLICT (correlation_id) DO UPDATE
      SET changed_at = greatest(flyte_execution.changed_at, excluded.changed_at), version = flyte_execution.version + 1
    RETURNING seq, correlation_id
"""

RECORD = f"""
WITH kept AS (
    INSERT INTO flyte_event_key SELECT $26::text, $1::text, $7::bigint WHERE $26::text IS NOT NULL
    ON CONFLICT (key) DO UPDATE SET event_id = excluded.event_id, kept_at = excluded.kept_at WHERE flyte_event_key.kept_at < $27
    RETURNING key
  ),
  go AS (SELECT WHERE $26::text IS NULL OR EXISTS (SELECT FROM kept)),
  e AS ({NEW_EVENT} {EVENT_VALUES}, NULL::bigint, cardinality($11::text[]), $9::bytea FROM go RETURNING seq),
  executions AS ({NEW_EXECUTIONS.format(guard="go")}),
  {NEW_ACTIONS}
SELECT seq FROM e
"""  # noqa: S608 - texts of ours

FINISH = f"""
WITH held AS (
    SELECT seq FROM flyte_action WHERE seq = $26 AND state = $27 AND attempt = $28 FOR UPDATE
  ),
  own AS (
    UPDATE flyte_execution x SET version = version + 1, changed_at = greatest(changed_at, $7) FROM held
    WHERE x.seq = $29 AND x.version = $30 RETURNING x.seq, x.correlation_id
  ),
  e AS ({NEW_EVENT} {EVENT_VALUES}, $26::bigint, cardinality($11::text[]) + 1, $9::bytea FROM own RETURNING seq),
  ended AS (
    UPDATE flyte_action a SET state = $31, since = $7, states = states || $32, result_seq = e.seq, due_at = NULL FROM e
    WHERE a.seq = $26
  ),
  others AS ({NEW_EXECUTIONS.format(guard="own")}),
  executions AS (SELECT seq, correlation_id FROM own UNION ALL SELECT seq, correlation_id FROM others),
  {NEW_ACTIONS}
SELECT seq FROM e
"""  # noqa: S608 - texts of ours

LATE = f"""
WITH held AS (
    SELECT FROM flyte_attempt WHERE action_seq = $10 AND number = $11 AND late_seq IS NULL FOR UPDATE
  ),
  e AS ({NEW_EVENT} {EVENT_VALUES}, $10::bigint, 1, $9::bytea FROM held RETURNING seq)
UPDATE flyte_attempt SET late_seq = e.seq FROM e WHERE action_seq = $10 AND number = $11
"""  # noqa: S608 - texts of ours

CLAIM = """
WITH RECURSIVE kinds AS (
    (SELECT labels, command FROM flyte_action WHERE state = 'NEW' AND pack_name = $1::text ORDER BY labels, command LIMIT 1)
    UNION ALL
    SELECT following.* FROM kinds CROSS JOIN LATERAL (
      SELECT labels, command FROM flyte_action
      WHERE state = 'NEW' AND pack_name = $1::text AND (labels, command) > (kinds.labels, kinds.command)
      ORDER BY labels, command LIMIT 1
    ) following
  ),
  own AS (SELECT labels, command FROM kinds WHERE labels::jsonb <@ $2::jsonb AND command = coalesce($3::text, command)),
  candidates AS (
    SELECT head.seq FROM own CROSS JOIN LATERAL (
      SELECT seq FROM flyte_action
      WHERE state = 'NEW' AND pack_name = $1::text AND labels = own.labels AND command = own.command
      ORDER BY seq LIMIT $4::bigint + 16
    ) head
  ),
  heads AS (
    SELECT seq FROM flyte_action WHERE seq = ANY (ARRAY(SELECT seq FROM candidates ORDER BY seq)) AND state = 'NEW'
    ORDER BY seq LIMIT $4::bigint FOR UPDATE {locked}
  ),
  claimed AS (
    UPDATE flyte_action a
    SET state = 'PENDING', since = $5::bigint, states = states || ',PENDING ' || $5::bigint, attempt = attempt + 1,
      claim = $6::text, due_at = $5::bigint + timeout
    FROM heads WHERE a.seq = heads.seq
    RETURNING a.seq, a.execution_seq, a.action_id, a.command, a.input, a.attempt, a.timeout
  ),
  touched AS (
    UPDATE flyte_execution x SET changed_at = greatest(x.changed_at, $5::bigint)
    FROM (SELECT DISTINCT execution_seq FROM claimed) c WHERE x.seq = c.execution_seq
  ),
  begun AS (
    INSERT INTO flyte_attempt (action_seq, number, seed, pack_id, taken_at)
    SELECT seq, attempt, $7::bytea, $8::text, $5::bigint FROM claimed WHERE timeout IS NOT NULL
  )
SELECT action_id, command, input, attempt, timeout, TRUE FROM (SELECT * FROM claimed ORDER BY seq) ordered
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, FALSE WHERE EXISTS (SELECT FROM own) AND NOT EXISTS (SELECT FROM claimed)
"""
"""The actions, or one row that says that there are some which others have their hands on."""

SKIPPING, WAITING = CLAIM.format(locked="SKIP LOCKED"), CLAIM.format(locked="")

CLAIMED_BEFORE = """
SELECT a.action_id, a.command, a.input, a.attempt, a.timeout, TRUE
FROM flyte_execution x JOIN flyte_action a ON a.execution_seq = x.seq
WHERE x.changed_at >= $1 AND a.claim = $2 AND a.state = 'PENDING' ORDER BY a.seq
"""

LOOKS = 5
"""How often a claim looks again when others were faster each time."""

FIND = """
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.pack_name, a.labels, a.command, a.state, a.context,
  a.result_seq, a.attempt, a.timeout, a.due_at, x.correlation_id, x.flow_name, x.flow_uuid, x.version,
  others.step_ids, others.step_indexes, others.states
FROM flyte_action a JOIN flyte_execution x ON x.seq = a.execution_seq
CROSS JOIN LATERAL (
  SELECT array_agg(step_id ORDER BY o.seq) AS step_ids, array_agg(step_index ORDER BY o.seq) AS step_indexes,
    array_agg(state ORDER BY o.seq) AS states
  FROM flyte_action o WHERE o.execution_seq = a.execution_seq
) others
WHERE {condition}
"""


class Found(NamedTuple):
    """An action as it is in the database, and the version of its execution."""

    seq: int
    execution_seq: int
    state: str
    attempt: int
    timeout: int | None
    version: int
    progress: Progress


async def record(connection: Any, event: Event, outcome: Outcome, key: str | None, *, is_again: bool) -> str:
    """See `Store.record`. `is_again`: it may have been done before, by this very event."""
    if is_again and await connection.fetchval("SELECT TRUE FROM flyte_event WHERE event_id = $1", event.event_id):
        return event.event_id
    now = to_microseconds(event.received_at)
    values = (*_event_values(event, outcome), _flows(outcome), *_action_values(outcome.actions, None))
    done = await connection.fetchval(RECORD, *values, key, now - KEPT_KEYS // MICROSECOND)
    if done is not None:
        return event.event_id
    earlier: str = await connection.fetchval("SELECT event_id FROM flyte_event_key WHERE key = $1", key)
    return earlier


def _event_values(event: Event, outcome: Outcome) -> tuple[object, ...]:
    return (
        event.event_id,
        event.name,
        event.pack.id,
        event.pack.name,
        to_text(event.pack.labels),
        event.payload,
        to_microseconds(event.received_at),
        None if event.created_at is None else event.created_at.isoformat(),
        encode_decisions(outcome.decisions) if outcome.decisions else None,
    )


def _flows(outcome: Outcome) -> list[str]:
    return sorted({decision.flow_name for decision in outcome.decisions})


def _action_values(actions: Sequence[NewAction], own: str | None) -> tuple[object, ...]:
    """Return the actions by columns, and the executions to be begun or continued, but for the `own` one."""
    begun = {action.correlation_id: action for action in actions if action.correlation_id != own}
    due = [None if action.not_before is None else to_microseconds(action.not_before) for action in actions]
    return (
        [action.action_id for action in actions],
        [action.correlation_id for action in actions],
        [action.step_index for action in actions],
        [action.step_id for action in actions],
        [action.pack_name for action in actions],
        [to_text(action.pack_labels) for action in actions],
        [action.name for action in actions],
        ["NEW" if at is None else LATER for at in due],
        [encode_json(action.context) for action in actions],
        [action.input for action in actions],
        [None if action.timeout is None else action.timeout // MICROSECOND for action in actions],
        due,
        list(begun),
        [action.flow_name for action in begun.values()],
        [action.flow_uuid for action in begun.values()],
    )


class Request(NamedTuple):
    """What is asked for by a claim; `token` tells it from all others."""

    pack: PackRef
    at: datetime
    command: str | None
    limit: int
    seed: bytes
    token: str


async def claim(connection: Any, asked: Request, *, is_again: bool) -> list[Claimed]:
    """See `Store.claim`."""
    now = to_microseconds(asked.at)
    if is_again:
        rows = await connection.fetch(CLAIMED_BEFORE, now, asked.token)
        if rows:
            return [_claimed(row, now, asked.seed) for row in rows]
    pack = asked.pack
    values = (pack.name, to_text(pack.labels), asked.command, asked.limit, now, asked.token, asked.seed, pack.id)
    rows = await connection.fetch(SKIPPING, *values)
    for _ in range(LOOKS):
        if not rows or rows[0][-1]:
            break
        # Others have their hands on all there is, and may take something else: now wait for what they do.
        rows = await connection.fetch(WAITING, *values)
    return [_claimed(row, now, asked.seed) for row in rows if row[-1]]


def _claimed(row: Sequence[Any], now: int, seed: bytes) -> Claimed:
    action_id, command, input_, attempt, timeout, _ = row
    if timeout is None:
        return Claimed(action_id, command, input_, attempt)
    lease = lease_token(seed, action_id, attempt)
    return Claimed(action_id, command, input_, attempt, lease, timedelta(microseconds=timeout), to_instant(now + timeout))


async def finish(connection: Any, action_id: str, result: Event, decide: Decide, *, is_again: bool) -> bool | None:
    """See `Store.finish`; None when somebody else was faster, and it must be decided anew."""
    found = await find(connection, action_id)
    known = found.progress.result
    if is_again and known is not None and known.event_id == result.event_id:
        return True
    ruling = decide(found.progress)
    if ruling is None:
        return False
    if isinstance(ruling, Late):
        await connection.execute(LATE, *_event_values(result, Outcome()), found.seq, ruling.number)
        return True
    if found.state not in UNFINISHED:
        state = found.progress.state
        raise ConflictError(f"Action {action_id!r} is {state}; only a PENDING or UNKNOWN action can be finished.")
    return True if await end(connection, found, result, ruling) else None


async def end(connection: Any, found: Found, result: Event, outcome: Outcome) -> bool:
    """Let an action end with a result; return False, with nothing done, when it or its execution has changed."""
    state = "FATAL" if result.name == FATAL else "SUCCESS"
    now = to_microseconds(result.received_at)
    done = await connection.fetchval(
        FINISH,
        *_event_values(result, outcome),
        _flows(outcome),
        *_action_values(outcome.actions, found.progress.correlation_id),
        found.seq,
        found.state,
        found.attempt,
        found.execution_seq,
        found.version,
        state,
        f",{state} {now}",
    )
    return done is not None


async def find(connection: Any, action_id: str, *, locks: bool = False) -> Found:
    """Return an action as it stands; raise `NotFoundError`."""
    statement = FIND.format(condition="a.action_id = $1") + ("FOR UPDATE OF a" if locks else "")
    row = await connection.fetchrow(statement, action_id)
    if row is None:
        raise NotFoundError(f"There is no action {action_id!r}.")
    return await found_of(connection, row)


async def find_seq(connection: Any, seq: int) -> Found | None:
    """Return the action with this number, locked; None when it is gone."""
    row = await connection.fetchrow(FIND.format(condition="a.seq = $1") + "FOR UPDATE OF a", seq)
    return None if row is None else await found_of(connection, row)


async def found_of(connection: Any, row: Any) -> Found:
    """Return what was found, with its result and leases."""
    siblings = zip(row["step_ids"], row["step_indexes"], row["states"], strict=True)
    progress = Progress(
        action_id=row["action_id"],
        name=row["command"],
        pack_name=row["pack_name"],
        pack_labels=decode_strings(row["labels"]),
        correlation_id=row["correlation_id"],
        flow_name=row["flow_name"],
        flow_uuid=row["flow_uuid"],
        step_id=row["step_id"],
        step_index=row["step_index"],
        context=decode_strings(row["context"]),
        state=STATES[row["state"]],
        siblings=tuple([Sibling(step_id, index, STATES[state]) for step_id, index, state in siblings]),
        result=await _result(connection, row["result_seq"]),
        attempt=row["attempt"],
        leases=() if row["timeout"] is None else await _leases(connection, row["seq"], row["action_id"]),
        timeout=None if row["timeout"] is None else timedelta(microseconds=row["timeout"]),
        due_at=None if row["due_at"] is None else to_instant(row["due_at"]),
    )
    return Found(row["seq"], row["execution_seq"], row["state"], row["attempt"], row["timeout"], row["version"], progress)


async def _result(connection: Any, seq: int | None) -> Event | None:
    if seq is None:
        return None
    return event_of(await connection.fetchrow(f"SELECT {EVENT} FROM flyte_event WHERE seq = $1", seq))  # noqa: S608


async def _leases(connection: Any, seq: int, action_id: str) -> tuple[Lease, ...]:
    rows = await connection.fetch(
        "SELECT number, seed, lease, lost_at IS NOT NULL FROM flyte_attempt WHERE action_seq = $1 ORDER BY number", seq
    )
    return tuple([Lease(number, lease_of(seed, lease, action_id, number), is_lost) for number, seed, lease, is_lost in rows])


def lease_of(seed: bytes, lease: str | None, action_id: str, number: int) -> str:
    """Return the lease of an attempt: the one that it came with from another store, or what is made of the seed."""
    return lease_token(seed, action_id, number) if lease is None else lease
