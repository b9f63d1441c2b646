"""The changes to actions, in statements that are each a transaction and process many at a time.

Each locks executions in the order of their numbers, so that two never deadlock.

Nothing is locked while the consequences of a result are decided. An execution has a version that is
increased whenever one of its actions is created or ends: a decision is written only if the version
is still the one that it was based on.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import asyncpg

from flyteops.model import Event, Lease, Outcome, PackRef, Progress, Sibling, has_labels
from flyteops.ruling import Late
from flyteops.storage import rules
from flyteops.storage.base import KEPT_KEYS, Claimed, lease_token
from flyteops.storage.finish import FinishRequest
from flyteops.storage.postgres.pool import LOST
from flyteops.storage.row import (
    MICROSECOND,
    REVISION,
    STATES,
    decode_labels,
    decode_strings,
    encode_decisions,
    encode_json,
    event_of,
    failure_column,
    read_queue,
    subsets,
    to_instant,
    to_microseconds,
    to_text,
)
from flyteops.storage.undelivered import ClaimTokens

EVENT = "event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure"

GIVEN = """
  given AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::text[],
        $9::boolean[], $10::bytea[], $11::int[])
      WITH ORDINALITY AS n (event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure, decisions,
        created, place)
  )
"""
"""Events by columns; `created` is the number of actions that follow from each.

Consequences refer to them by their place.
"""

NEW_EVENTS = """
  e AS (
    INSERT INTO flyte_event
      (event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure, action_seq, referrers, decisions)
    SELECT event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure, action_seq,
      created + (action_seq IS NOT NULL)::int, decisions
    FROM passed ORDER BY place
    RETURNING seq, event_id
  ),
  noted AS (SELECT e.seq, p.place, p.received_at FROM e JOIN passed p USING (event_id)),
  decided AS (
    INSERT INTO flyte_flow_event SELECT n.name, t.seq FROM unnest($12::text[], $13::bigint[]) AS n (name, place)
    JOIN noted t USING (place)
  )
"""
"""Stores those that passed, and the flows ($12) with a decision about them, by place ($13)."""

NEW_EXECUTIONS = """
    INSERT INTO flyte_execution (correlation_id, flow_name, flow_uuid, changed_at)
    SELECT n.correlation_id, n.flow_name, n.flow_uuid, t.received_at
    FROM unnest($27::bigint[], $28::text[], $29::text[], $30::text[]) AS n (place, correlation_id, flow_name, flow_uuid)
    JOIN noted t USING (place)
    ORDER BY 1
    ON CONFLICT (correlation_id) DO UPDATE
      SET changed_at = greatest(flyte_execution.changed_at, excluded.changed_at), version = flyte_execution.version + 1
    RETURNING seq, correlation_id
"""

NEW_ACTIONS = """
  actions AS (
    INSERT INTO flyte_action (action_id, execution_seq, step_index, step_id, pack_name, labels, command, trigger_seq, state,
      since, states, context, input, timeout, due_at, wait)
    SELECT n.action_id, x.seq, n.step_index, n.step_id, n.pack_name, n.labels, n.command, t.seq, n.state,
      t.received_at, 'NEW ' || t.received_at, n.context, n.input, n.timeout, n.due_at, greatest(n.due_at - t.received_at, 0)
    FROM unnest($14::bigint[], $15::text[], $16::text[], $17::int[], $18::text[], $19::text[], $20::text[], $21::text[],
        $22::text[], $23::bytea[], $24::bytea[], $25::bigint[], $26::bigint[])
      WITH ORDINALITY AS n (event_place, action_id, correlation_id, step_index, step_id, pack_name, labels, command, state,
        context, input, timeout, due_at, place)
    JOIN noted t ON t.place = n.event_place JOIN executions x USING (correlation_id)
    ORDER BY n.place
  )
"""

RECORD = f"""
WITH {GIVEN},
  named AS (
    SELECT * FROM unnest($31::text[]) WITH ORDINALITY AS n (key, place)
    WHERE $32::bigint IS NULL OR EXISTS (SELECT FROM flyte_number WHERE name = 'store' AND value = $32)
  ),
  kept AS (
    INSERT INTO flyte_event_key SELECT key, event_id, received_at FROM named JOIN given USING (place) WHERE key IS NOT NULL
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET event_id = excluded.event_id, kept_at = excluded.kept_at
      WHERE flyte_event_key.kept_at < excluded.kept_at - {KEPT_KEYS // MICROSECOND}
    RETURNING key
  ),
  passed AS (
    SELECT given.*, NULL::bigint AS action_seq FROM given JOIN named USING (place)
    WHERE key IS NULL OR key IN (SELECT key FROM kept)
  ),
  {NEW_EVENTS},
  executions AS ({NEW_EXECUTIONS}),
  {NEW_ACTIONS}
SELECT place FROM noted
"""  # noqa: S608 - constant SQL
"""Returns the places of those stored now.

Not those whose key was known, and none in a store other than $32.
"""

FINISH = f"""
WITH {GIVEN},
  asked AS (
    SELECT * FROM unnest($31::bigint[], $32::text[], $33::int[], $34::bigint[], $35::int[], $36::text[])
      WITH ORDINALITY AS n (action_seq, state, attempt, execution_seq, version, becomes, place)
  ),
  held AS (
    SELECT q.place FROM asked q JOIN flyte_action a ON a.seq = q.action_seq JOIN flyte_execution x ON x.seq = a.execution_seq
    WHERE a.state = q.state AND a.attempt = q.attempt AND x.version = q.version ORDER BY x.seq, a.seq FOR UPDATE OF a, x
  ),
  own AS (
    UPDATE flyte_execution x SET version = x.version + 1, changed_at = greatest(x.changed_at, g.received_at)
    FROM held JOIN asked q USING (place) JOIN given g USING (place)
    WHERE x.seq = q.execution_seq
    RETURNING x.seq, x.correlation_id, q.place, q.action_seq
  ),
  passed AS (SELECT given.*, own.action_seq FROM given JOIN own USING (place)),
  {NEW_EVENTS},
  ended AS (
    UPDATE flyte_action a SET state = q.becomes, since = t.received_at,
      states = a.states || ',' || q.becomes || ' ' || t.received_at, result_seq = t.seq, due_at = NULL
    FROM noted t JOIN asked q USING (place) WHERE a.seq = q.action_seq
  ),
  others AS ({NEW_EXECUTIONS}),
  executions AS (SELECT seq, correlation_id FROM own UNION ALL SELECT seq, correlation_id FROM others),
  {NEW_ACTIONS}
SELECT place FROM noted
"""  # noqa: S608 - constant SQL
"""Returns the places of those stored now: not those whose action or execution has changed."""

LATE = f"""
WITH {GIVEN},
  held AS (SELECT action_seq FROM flyte_attempt WHERE action_seq = $14 AND number = $15 AND late_seq IS NULL FOR UPDATE),
  passed AS (SELECT given.*, held.action_seq FROM given CROSS JOIN held),
  {NEW_EVENTS}
UPDATE flyte_attempt SET late_seq = e.seq FROM e WHERE action_seq = $14 AND number = $15
"""  # noqa: S608 - constant SQL

KINDS = """
  kinds AS (
    (SELECT labels, command FROM flyte_action WHERE state = 'NEW' AND pack_name = $1::text ORDER BY labels, command LIMIT 1)
    UNION ALL
    SELECT following.* FROM kinds CROSS JOIN LATERAL (
      SELECT labels, command FROM flyte_action
      WHERE state = 'NEW' AND pack_name = $1::text AND (labels, command) > (kinds.labels, kinds.command)
      ORDER BY labels, command LIMIT 1
    ) following
  )
"""
"""All labels and commands under which actions wait for packs of a name ($1)."""

READABLE = """
  own AS (SELECT labels, command FROM kinds WHERE labels::jsonb <@ $2::jsonb AND command = coalesce($3::text, command))
"""
"""Those that a pack with these labels ($2) may take, if all of them can be read."""

LISTED = """
  own AS (SELECT k.* FROM unnest($2::text[], $3::text[]) AS k (labels, command))
"""
"""The same, listed by the caller."""

ANY_COMMAND = """
  candidates AS (
    SELECT head.seq FROM unnest($2::text[]) asked (labels) CROSS JOIN LATERAL (
      SELECT seq FROM flyte_action
      WHERE state = 'NEW' AND pack_name = $1::text AND labels = asked.labels AND $3::text IS NULL
      ORDER BY seq LIMIT $4::bigint + 16
    ) head
  )
"""
"""The oldest actions that wait for a pack, of any command.

$2: all labels that such an action may request; $3: NULL.
"""

ONE_COMMAND = """
  candidates AS (
    SELECT head.seq FROM unnest($2::text[]) asked (labels) CROSS JOIN LATERAL (
      SELECT seq FROM flyte_action
      WHERE state = 'NEW' AND pack_name = $1::text AND labels = asked.labels AND command = $3::text
      ORDER BY seq LIMIT $4::bigint + 16
    ) head
  )
"""
"""The same under one command ($3)."""

MOST_SUBSETS = 64
"""The maximum of label sets looked up one by one: all that a pack with six labels may serve."""

HEADS_OF_OWN = """
  candidates AS (
    SELECT head.seq FROM own CROSS JOIN LATERAL (
      SELECT seq FROM flyte_action
      WHERE state = 'NEW' AND pack_name = $1::text AND labels = own.labels AND command = own.command
      ORDER BY seq LIMIT $4::bigint + 16
    ) head
  )
"""
"""The oldest actions of each of these labels and commands."""

CLAIM = f"""
WITH RECURSIVE {{candidates}},
  heads AS (
    SELECT seq FROM flyte_action WHERE seq = ANY (ARRAY(SELECT seq FROM candidates ORDER BY seq)) AND state = 'NEW'
    ORDER BY seq LIMIT $4::bigint FOR UPDATE {{locked}}
  ),
  claimed AS (
    UPDATE flyte_action a
    SET state = 'PENDING', since = $5::bigint, states = states || ',PENDING ' || $5::bigint, attempt = attempt + 1,
      claim = $6::text, due_at = $5::bigint + timeout
    FROM heads WHERE a.seq = heads.seq
    RETURNING a.seq, a.execution_seq, a.action_id, a.command, a.input, a.attempt, a.timeout, {REVISION} AS revision
  ),
  theirs AS (
    SELECT seq FROM flyte_execution WHERE seq IN (SELECT execution_seq FROM claimed) ORDER BY seq FOR UPDATE
  ),
  touched AS (
    UPDATE flyte_execution x SET changed_at = greatest(x.changed_at, $5::bigint) FROM theirs WHERE x.seq = theirs.seq
  ),
  begun AS (
    INSERT INTO flyte_attempt (action_seq, number, seed, pack_id, taken_at)
    SELECT seq, attempt, $7::bytea, $8::text, $5::bigint FROM claimed WHERE timeout IS NOT NULL
  )
SELECT action_id, command, input, attempt, timeout, revision, TRUE FROM (SELECT * FROM claimed ORDER BY seq) ordered
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, FALSE WHERE EXISTS (SELECT FROM candidates) AND NOT EXISTS (SELECT FROM claimed)
"""  # noqa: S608 - constant SQL
"""The actions, or one row to report that there are some which others have locked."""

LIST_KINDS = f"WITH RECURSIVE {KINDS} SELECT labels, command FROM kinds"  # noqa: S608 - constant SQL

Claims = tuple[str, str]
"""Two statements: one that skips rows locked by others, and one that waits for them."""


def _claims(*parts: str) -> Claims:
    candidates = ",".join(parts)
    return CLAIM.format(candidates=candidates, locked="SKIP LOCKED"), CLAIM.format(candidates=candidates, locked="")


CLAIM_READABLE = _claims(KINDS, READABLE, HEADS_OF_OWN)
CLAIM_LISTED = _claims(LISTED, HEADS_OF_OWN)
CLAIM_BY_LABELS = _claims(ANY_COMMAND)
CLAIM_OF_COMMAND = _claims(ONE_COMMAND)

CLAIMED_BEFORE = f"""
WITH found AS (
  UPDATE flyte_action a SET claim = $3::text FROM flyte_execution x
  WHERE x.changed_at >= $1 AND a.execution_seq = x.seq AND a.claim = ANY($2::text[]) AND a.state = 'PENDING'
  RETURNING a.seq, a.action_id, a.command, a.input, a.attempt, a.timeout, {REVISION} AS revision
)
SELECT action_id, command, input, attempt, timeout, revision, TRUE FROM found ORDER BY seq
"""  # noqa: S608 - constant SQL
"""Actions claimed by a try whose answer was lost.

They get the present token: later claims with an old one are undelivered.
"""

CLAIMED_WITH = f"SELECT action_id, {REVISION} FROM flyte_action a WHERE state = 'PENDING' AND claim = ANY($1::text[])"  # noqa: S608 - constant SQL

LOOKS = 5
"""The number of tries of a claim when others were faster each time."""

FIND = f"""
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.pack_name, a.labels, a.command, a.state, a.context,
  a.result_seq, a.attempt, a.timeout, a.due_at, {REVISION} AS revision, x.correlation_id, x.flow_name, x.flow_uuid, x.version,
  others.step_ids, others.step_indexes, others.states
FROM flyte_action a JOIN flyte_execution x ON x.seq = a.execution_seq
CROSS JOIN LATERAL (
  SELECT array_agg(step_id ORDER BY o.seq) AS step_ids, array_agg(step_index ORDER BY o.seq) AS step_indexes,
    array_agg(state ORDER BY o.seq) AS states
  FROM flyte_action o WHERE o.execution_seq = a.execution_seq
) others
WHERE {{condition}}
"""  # noqa: S608 - constant SQL


class ActionRow(NamedTuple):
    """An action as it is in the database, and the version of its execution."""

    seq: int
    execution_seq: int
    state: str
    attempt: int
    timeout: int | None
    version: int
    progress: Progress


class EventInsert(NamedTuple):
    """An event to be stored with its consequences, and the key that it came with."""

    event: Event
    outcome: Outcome
    key: str | None = None


async def record(
    connection: Any, entries: Sequence[EventInsert], *, store: int | None = None, is_again: bool = False
) -> list[str | None]:
    """See `Store.record`; stores all entries or none.

    When the store does not have this number, none is stored, and each result is None. `is_again`:
    it may have been done before, for these very events.
    """
    done = await _stored(connection, entries) if is_again else set()
    if not done:
        try:
            values = (*_event_columns(entries), *_action_columns(entries), [entry.key for entry in entries], store)
            done = {entries[place - 1].event.event_id for (place,) in await connection.fetch(RECORD, *values)}
        except asyncpg.UniqueViolationError:
            # A statement begun on the lost connection may have been completed only now.
            done = await _stored(connection, entries) if is_again else set()
            if not done:
                raise
    known = [entry.key for entry in entries if entry.event.event_id not in done]
    earlier: dict[str | None, str] = {}
    if known:
        rows = await connection.fetch("SELECT key, event_id FROM flyte_event_key WHERE key = ANY($1)", known)
        earlier = dict(map(tuple, rows))
    return [entry.event.event_id if entry.event.event_id in done else earlier.get(entry.key) for entry in entries]


async def _stored(connection: Any, entries: Sequence[EventInsert]) -> set[str]:
    event_ids = [entry.event.event_id for entry in entries]
    rows = await connection.fetch("SELECT event_id FROM flyte_event WHERE event_id = ANY($1)", event_ids)
    return {event_id for (event_id,) in rows}


def _event_columns(entries: Sequence[EventInsert]) -> tuple[Sequence[object], ...]:
    """Return the events by columns, and the flows with a decision about each."""
    events = [entry.event for entry in entries]
    decisions = [entry.outcome.decisions for entry in entries]
    flows = [(name, place) for place, made in enumerate(decisions, 1) for name in sorted({each.flow_name for each in made})]
    return (
        [event.event_id for event in events],
        [event.name for event in events],
        [event.pack.id for event in events],
        [event.pack.name for event in events],
        [to_text(event.pack.labels) for event in events],
        [event.payload for event in events],
        [to_microseconds(event.received_at) for event in events],
        [None if event.created_at is None else event.created_at.isoformat() for event in events],
        [failure_column(event) for event in events],
        [encode_decisions(made) if made else None for made in decisions],
        [len(entry.outcome.actions) for entry in entries],
        [name for name, _ in flows],
        [place for _, place in flows],
    )


def _action_columns(entries: Sequence[EventInsert], own: Sequence[str | None] | None = None) -> tuple[Sequence[object], ...]:
    """Return actions by columns, and executions to begin or continue, but for each entry's `own`."""
    places = [place for place, entry in enumerate(entries, 1) for _ in entry.outcome.actions]
    actions = [action for entry in entries for action in entry.outcome.actions]
    due = [None if action.not_before is None else to_microseconds(action.not_before) for action in actions]
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


async def claim(connection: Any, requests: Sequence[ClaimRequest], *, is_again: bool) -> list[list[Claimed]]:
    """See `Store.claim`; those of one kind at once, and the first caller gets the oldest."""
    asked = requests[0]._replace(limit=sum(each.limit for each in requests), at=max(each.at for each in requests))
    found = iter(await _claim(connection, asked, is_again=is_again))
    return [list(islice(found, each.limit)) for each in requests]


async def _claim(connection: Any, asked: ClaimRequest, *, is_again: bool) -> list[Claimed]:
    now = to_microseconds(asked.at)
    token, before = asked.tokens.next()
    if is_again:
        rows = await connection.fetch(CLAIMED_BEFORE, now, before, token)
        if rows:
            return [_claimed(row, now, asked.seed) for row in rows]
    pack = asked.pack
    labels = pack.labels
    if 2 ** len(labels) <= MOST_SUBSETS:
        claims = CLAIM_BY_LABELS if asked.command is None else CLAIM_OF_COMMAND
        own = [to_text(each) for each in subsets(labels)]
        rows = await _claim_from(connection, claims, asked, token, own, asked.command)
    else:
        rows = await _claim_readable(connection, asked, token)
    return [_claimed(row, now, asked.seed) for row in rows if row[-1]]


async def _claim_readable(connection: Any, asked: ClaimRequest, token: str) -> Sequence[Any]:
    """Claim for a pack with many labels, by comparing them with those of all waiting actions."""
    try:
        return await _claim_from(connection, CLAIM_READABLE, asked, token, to_text(asked.pack.labels), asked.command)
    except asyncpg.DataError:
        # One queue that cannot be read must not keep a pack from all others.
        kinds = await _readable_kinds(connection, asked)
        labels, commands = [kind[0] for kind in kinds], [kind[1] for kind in kinds]
        return await _claim_from(connection, CLAIM_LISTED, asked, token, labels, commands)


async def _claim_from(connection: Any, claims: Claims, asked: ClaimRequest, token: str, *own: object) -> Sequence[Any]:
    skipping, waiting = claims
    now = to_microseconds(asked.at)
    values = (asked.pack.name, *own, asked.limit, now, token, asked.seed, asked.pack.id)
    rows: Sequence[Any] = await connection.fetch(skipping, *values)
    for _ in range(LOOKS):
        if not rows or rows[0][-1]:
            break
        # All waiting actions are locked by others, which may take something else: now wait for
        # them.
        rows = await connection.fetch(waiting, *values)
    return rows


async def _readable_kinds(connection: Any, asked: ClaimRequest) -> Sequence[tuple[str, str]]:
    """Return the labels and commands that a pack may take, without help of the database."""
    kinds: list[tuple[str, str]] = []
    for labels, command in await connection.fetch(LIST_KINDS, asked.pack.name):
        wanted = read_queue(asked.pack.name, labels, command)
        if asked.command in (None, command) and has_labels(asked.pack.labels, wanted):
            kinds.append((labels, command))
    return kinds


def _claimed(row: Sequence[Any], now: int, seed: bytes) -> Claimed:
    action_id, command, input_, attempt, timeout, revision, _ = row
    claimed = Claimed(action_id, command, input_, attempt, revision=revision)
    return rules.with_lease(claimed, timeout, now, seed)


class Completion(NamedTuple):
    """An action as it was found, and the result that ends it."""

    found: ActionRow
    result: Event
    outcome: Outcome


async def finish(connection: Any, requests: Sequence[FinishRequest], *, is_again: bool) -> list[bool | Exception]:
    """Apply results as `Store.finish` does; see their decisions.

    Return False for one where another server was faster, and which must be decided again.
    """
    rows = await connection.fetch(FIND.format(condition="a.action_id = ANY($1)"), [each.action_id for each in requests])
    found = {row["action_id"]: await found_of(connection, row) for row in rows}
    answers: list[bool | Exception] = []
    completions: dict[int, Completion] = {}
    for place, request in enumerate(requests):
        try:
            completion = await _decide(connection, request, found.get(request.action_id), is_again=is_again)
        except (*LOST, asyncpg.PostgresError):
            raise
        except Exception as error:  # any error of a decision goes to its caller
            answers.append(error)
            continue
        if completion is not None:
            completions[place] = completion
        answers.append(True)
    if completions:
        for place, is_done in zip(completions, await end(connection, list(completions.values())), strict=True):
            answers[place] = is_done
    return answers


async def _decide(connection: Any, request: FinishRequest, found: ActionRow | None, *, is_again: bool) -> Completion | None:
    """Return the completion of an action by the decision, None when nothing is left to be done."""
    found = rules.found(found, "action", request.action_id)
    known = found.progress.result
    if is_again and known is not None and known.event_id == request.result.event_id:
        return None
    decision = request.decide(found.progress)
    if decision is None:
        return None
    if isinstance(decision, Late):
        await connection.execute(LATE, *_event_columns([EventInsert(request.result, Outcome())]), found.seq, decision.number)
        return None
    rules.require_finishable(found.progress)
    return Completion(found, request.result, decision)


async def end(connection: Any, completions: Sequence[Completion]) -> list[bool]:
    """End actions with their results.

    False, with nothing done, for one that has changed or whose execution has.
    """
    entries = [EventInsert(each.result, each.outcome) for each in completions]
    found = [each.found for each in completions]
    rows = await connection.fetch(
        FINISH,
        *_event_columns(entries),
        *_action_columns(entries, [each.progress.correlation_id for each in found]),
        [each.seq for each in found],
        [each.state for each in found],
        [each.attempt for each in found],
        [each.execution_seq for each in found],
        [each.version for each in found],
        [rules.final_state(each.result) for each in completions],
    )
    done = {place for (place,) in rows}
    return [place in done for place in range(1, len(completions) + 1)]


async def find(connection: Any, action_id: str, *, locks: bool = False) -> ActionRow:
    """Return the current state of an action; raise `NotFoundError`."""
    statement = FIND.format(condition="a.action_id = $1") + ("FOR UPDATE OF a" if locks else "")
    row = await connection.fetchrow(statement, action_id)
    return await found_of(connection, rules.found(row, "action", action_id))


async def find_seq(connection: Any, seq: int) -> ActionRow | None:
    """Return the action with this number, locked; None if it no longer exists."""
    row = await connection.fetchrow(FIND.format(condition="a.seq = $1") + "FOR UPDATE OF a", seq)
    return None if row is None else await found_of(connection, row)


async def found_of(connection: Any, row: Any) -> ActionRow:
    """Return the found action, with its result and leases."""
    siblings = zip(row["step_ids"], row["step_indexes"], row["states"], strict=True)
    progress = Progress(
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
        siblings=tuple([Sibling(step_id, index, STATES[state]) for step_id, index, state in siblings]),
        result=await _result(connection, row["result_seq"]),
        attempt=row["attempt"],
        leases=() if row["timeout"] is None else await _leases(connection, row["seq"], row["action_id"]),
        timeout=None if row["timeout"] is None else timedelta(microseconds=row["timeout"]),
        due_at=None if row["due_at"] is None else to_instant(row["due_at"]),
        revision=row["revision"],
    )
    return ActionRow(row["seq"], row["execution_seq"], row["state"], row["attempt"], row["timeout"], row["version"], progress)


async def _result(connection: Any, seq: int | None) -> Event | None:
    if seq is None:
        return None
    return event_of(await connection.fetchrow(f"SELECT {EVENT} FROM flyte_event WHERE seq = $1", seq))  # noqa: S608 - constant SQL, bound values


async def _leases(connection: Any, seq: int, action_id: str) -> tuple[Lease, ...]:
    rows = await connection.fetch(
        "SELECT number, seed, lease, lost_at IS NOT NULL FROM flyte_attempt WHERE action_seq = $1 ORDER BY number", seq
    )
    return tuple([Lease(number, lease_of(seed, lease, action_id, number), is_lost) for number, seed, lease, is_lost in rows])


def lease_of(seed: bytes, lease: str | None, action_id: str, number: int) -> str:
    """Return the lease of an attempt: that from another store, or one derived from the seed."""
    return lease_token(seed, action_id, number) if lease is None else lease
