-- The changes to actions, in statements that process many at a time.

-- The number of changes of an action's state: a comma separates two states.
-- name: revision
length(a.states) - length(replace(a.states, ',', ''))

-- Events by columns; `created` is the number of actions that follow from each. Consequences refer to them by their
-- place.
-- name: given
given AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::text[],
      $9::boolean[], $10::bytea[], $11::int[])
    WITH ORDINALITY AS n (event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure, decisions,
      created, place)
)

-- Stores those that passed, and the flows ($12) with a decision about them, by place ($13).
-- name: new_events
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

-- name: new_executions
INSERT INTO flyte_execution (correlation_id, flow_name, flow_uuid, changed_at)
SELECT n.correlation_id, n.flow_name, n.flow_uuid, t.received_at
FROM unnest($27::bigint[], $28::text[], $29::text[], $30::text[]) AS n (place, correlation_id, flow_name, flow_uuid)
JOIN noted t USING (place)
ORDER BY 1
ON CONFLICT (correlation_id) DO UPDATE
  SET changed_at = greatest(flyte_execution.changed_at, excluded.changed_at), version = flyte_execution.version + 1
RETURNING seq, correlation_id

-- name: new_actions
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

-- Returns the places of those stored now: not those whose key was known, and none in a store other than $32. $33 is
-- the time for which keys count.
-- name: record
WITH {given},
  named AS (
    SELECT * FROM unnest($31::text[]) WITH ORDINALITY AS n (key, place)
    WHERE $32::bigint IS NULL OR EXISTS (SELECT FROM flyte_number WHERE name = 'store' AND value = $32)
  ),
  kept AS (
    INSERT INTO flyte_event_key SELECT key, event_id, received_at FROM named JOIN given USING (place) WHERE key IS NOT NULL
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET event_id = excluded.event_id, kept_at = excluded.kept_at
      WHERE flyte_event_key.kept_at < excluded.kept_at - $33::bigint
    RETURNING key
  ),
  passed AS (
    SELECT given.*, NULL::bigint AS action_seq FROM given JOIN named USING (place)
    WHERE key IS NULL OR key IN (SELECT key FROM kept)
  ),
  {new_events},
  executions AS ({new_executions}),
  {new_actions}
SELECT place FROM noted

-- Returns the places of those stored now: not those whose action or execution has changed.
-- name: finish
WITH {given},
  asked AS (
    SELECT * FROM unnest($31::bigint[], $32::text[], $33::int[], $34::bigint[], $35::int[], $36::text[], $37::text[])
      WITH ORDINALITY AS n (action_seq, state, attempt, execution_seq, version, becomes, claim, place)
  ),
  held AS (
    SELECT q.place FROM asked q JOIN flyte_action a ON a.seq = q.action_seq JOIN flyte_execution x ON x.seq = a.execution_seq
    WHERE a.state = q.state AND a.attempt = q.attempt AND x.version = q.version AND a.claim IS NOT DISTINCT FROM
      coalesce(q.claim, a.claim)
    ORDER BY x.seq, a.seq FOR UPDATE OF a, x
  ),
  own AS (
    UPDATE flyte_execution x SET version = x.version + 1, changed_at = greatest(x.changed_at, g.received_at)
    FROM held JOIN asked q USING (place) JOIN given g USING (place)
    WHERE x.seq = q.execution_seq
    RETURNING x.seq, x.correlation_id, q.place, q.action_seq
  ),
  passed AS (SELECT given.*, own.action_seq FROM given JOIN own USING (place)),
  {new_events},
  ended AS (
    UPDATE flyte_action a SET state = q.becomes, since = t.received_at,
      states = a.states || ',' || q.becomes || ' ' || t.received_at, result_seq = t.seq, due_at = NULL
    FROM noted t JOIN asked q USING (place) WHERE a.seq = q.action_seq
  ),
  others AS ({new_executions}),
  executions AS (SELECT seq, correlation_id FROM own UNION ALL SELECT seq, correlation_id FROM others),
  {new_actions}
SELECT place FROM noted

-- name: late
WITH {given},
  held AS (SELECT action_seq FROM flyte_attempt WHERE action_seq = $14 AND number = $15 AND late_seq IS NULL FOR UPDATE),
  passed AS (SELECT given.*, held.action_seq FROM given CROSS JOIN held),
  {new_events}
UPDATE flyte_attempt SET late_seq = e.seq FROM e WHERE action_seq = $14 AND number = $15

-- All labels and commands under which actions wait for packs of a name ($1).
-- name: kinds
kinds AS (
  (SELECT labels, command FROM flyte_action WHERE state = 'NEW' AND pack_name = $1::text ORDER BY labels, command LIMIT 1)
  UNION ALL
  SELECT following.* FROM kinds CROSS JOIN LATERAL (
    SELECT labels, command FROM flyte_action
    WHERE state = 'NEW' AND pack_name = $1::text AND (labels, command) > (kinds.labels, kinds.command)
    ORDER BY labels, command LIMIT 1
  ) following
)

-- Those that a pack with these labels ($2) may take, if all of them can be read.
-- name: readable
own AS (SELECT labels, command FROM kinds WHERE labels::jsonb <@ $2::jsonb AND command = coalesce($3::text, command))

-- The same, listed by the caller.
-- name: listed
own AS (SELECT k.* FROM unnest($2::text[], $3::text[]) AS k (labels, command))

-- The oldest actions that wait for a pack, of any command. $2: all labels that such an action may request; $3: NULL.
-- name: any_command
candidates AS (
  SELECT head.seq FROM unnest($2::text[]) asked (labels) CROSS JOIN LATERAL (
    SELECT seq FROM flyte_action
    WHERE state = 'NEW' AND pack_name = $1::text AND labels = asked.labels AND $3::text IS NULL
    ORDER BY seq LIMIT $4::bigint + 16
  ) head
)

-- The same under one command ($3).
-- name: one_command
candidates AS (
  SELECT head.seq FROM unnest($2::text[]) asked (labels) CROSS JOIN LATERAL (
    SELECT seq FROM flyte_action
    WHERE state = 'NEW' AND pack_name = $1::text AND labels = asked.labels AND command = $3::text
    ORDER BY seq LIMIT $4::bigint + 16
  ) head
)

-- The oldest actions of each of these labels and commands.
-- name: heads_of_own
candidates AS (
  SELECT head.seq FROM own CROSS JOIN LATERAL (
    SELECT seq FROM flyte_action
    WHERE state = 'NEW' AND pack_name = $1::text AND labels = own.labels AND command = own.command
    ORDER BY seq LIMIT $4::bigint + 16
  ) head
)

-- name: claim_heads
heads AS (
  SELECT seq FROM flyte_action WHERE seq = ANY (ARRAY(SELECT seq FROM candidates ORDER BY seq)) AND state = 'NEW'
  ORDER BY seq LIMIT $4::bigint FOR UPDATE

-- The claimed actions, or one row to report that there are some which others have locked.
-- name: claim_rest
claimed AS (
    UPDATE flyte_action a
    SET state = 'PENDING', since = $5::bigint, states = states || ',PENDING ' || $5::bigint, attempt = attempt + 1,
      claim = $6::text, due_at = $5::bigint + timeout
    FROM heads WHERE a.seq = heads.seq
    RETURNING a.seq, a.execution_seq, a.action_id, a.command, a.input, a.attempt, a.timeout, {revision} AS revision
  ),
  theirs AS (
    SELECT seq, version FROM flyte_execution WHERE seq IN (SELECT execution_seq FROM claimed) ORDER BY seq FOR UPDATE
  ),
  touched AS (
    UPDATE flyte_execution x SET changed_at = greatest(x.changed_at, $5::bigint) FROM theirs WHERE x.seq = theirs.seq
  ),
  begun AS (
    INSERT INTO flyte_attempt (action_seq, number, seed, pack_id, taken_at)
    SELECT seq, attempt, $7::bytea, $8::text, $5::bigint FROM claimed WHERE timeout IS NOT NULL
  )
SELECT action_id, command, input, attempt, timeout, revision, seq, execution_seq, version, TRUE
FROM (SELECT c.*, t.version FROM claimed c JOIN theirs t ON t.seq = c.execution_seq ORDER BY c.seq) ordered
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, FALSE WHERE EXISTS (SELECT FROM candidates) AND NOT EXISTS (SELECT FROM claimed)

-- Each claim has two statements: one that skips rows locked by others, and one that waits for them.
-- name: claim_readable
WITH RECURSIVE {kinds},
{readable},
{heads_of_own},
{claim_heads} SKIP LOCKED
),
{claim_rest}

-- name: claim_readable_waiting
WITH RECURSIVE {kinds},
{readable},
{heads_of_own},
{claim_heads}
),
{claim_rest}

-- name: claim_listed
WITH RECURSIVE {listed},
{heads_of_own},
{claim_heads} SKIP LOCKED
),
{claim_rest}

-- name: claim_listed_waiting
WITH RECURSIVE {listed},
{heads_of_own},
{claim_heads}
),
{claim_rest}

-- name: claim_by_labels
WITH RECURSIVE {any_command},
{claim_heads} SKIP LOCKED
),
{claim_rest}

-- name: claim_by_labels_waiting
WITH RECURSIVE {any_command},
{claim_heads}
),
{claim_rest}

-- name: claim_of_command
WITH RECURSIVE {one_command},
{claim_heads} SKIP LOCKED
),
{claim_rest}

-- name: claim_of_command_waiting
WITH RECURSIVE {one_command},
{claim_heads}
),
{claim_rest}

-- Actions claimed by a try whose answer was lost. They get the present token: later claims with an old one are
-- undelivered.
-- name: claimed_before
WITH found AS (
  UPDATE flyte_action a SET claim = $3::text FROM flyte_execution x
  WHERE x.changed_at >= $1 AND a.execution_seq = x.seq AND a.claim = ANY($2::text[]) AND a.state = 'PENDING'
  RETURNING a.seq, a.action_id, a.command, a.input, a.attempt, a.timeout, {revision} AS revision
)
SELECT action_id, command, input, attempt, timeout, revision, TRUE FROM found ORDER BY seq

-- name: claimed_with
SELECT action_id, {revision} FROM flyte_action a WHERE state = 'PENDING' AND claim = ANY($1::text[])

-- name: list_kinds
WITH RECURSIVE {kinds} SELECT labels, command FROM kinds

-- An action with the version of its execution, and the states of all actions of that.
-- name: find
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.pack_name, a.labels, a.command, a.state, a.context,
  a.result_seq, a.attempt, a.timeout, a.due_at, {revision} AS revision, x.correlation_id, x.flow_name, x.flow_uuid, x.version,
  others.step_ids, others.step_indexes, others.states
FROM flyte_action a JOIN flyte_execution x ON x.seq = a.execution_seq
CROSS JOIN LATERAL (
  SELECT array_agg(step_id ORDER BY o.seq) AS step_ids, array_agg(step_index ORDER BY o.seq) AS step_indexes,
    array_agg(state ORDER BY o.seq) AS states
  FROM flyte_action o WHERE o.execution_seq = a.execution_seq
) others

-- name: find_all_by_id
{find}
WHERE a.action_id = ANY($1)

-- name: find_by_id
{find}
WHERE a.action_id = $1

-- name: lock_by_id
{find_by_id}
FOR UPDATE OF a

-- name: lock_by_seq
{find}
WHERE a.seq = $1 FOR UPDATE OF a

-- name: event
SELECT event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure
FROM flyte_event WHERE seq = $1

-- name: leases
SELECT number, seed, lease, lost_at IS NOT NULL FROM flyte_attempt WHERE action_seq = $1 ORDER BY number

-- name: stored_events
SELECT event_id FROM flyte_event WHERE event_id = ANY($1)

-- name: find_keys
SELECT key, event_id FROM flyte_event_key WHERE key = ANY($1)
