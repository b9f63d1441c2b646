-- Export and import. The names and lengths of rows come first, then the rows themselves, some at a time.

-- name: checkpoint
SELECT records, checksum FROM flyte_loading

-- name: packs
SELECT declaration, last_seen_at FROM flyte_pack ORDER BY name, pack_id

-- name: version_lengths
SELECT uuid, length(flow) FROM flyte_flow_version ORDER BY saved_at, uuid

-- name: versions
SELECT uuid, flow, saved_at FROM flyte_flow_version WHERE uuid = ANY($1) ORDER BY saved_at, uuid

-- name: flow_lengths
SELECT name, 0 FROM flyte_flow ORDER BY name

-- name: flows
SELECT name, uuid FROM flyte_flow WHERE name = ANY($1) ORDER BY name

-- name: timetables
SELECT flow_name, step_index, step_id, rule, next_at FROM flyte_timetable WHERE flow_name = ANY($1) ORDER BY 1, 2

-- name: item_lengths
SELECT key, length(value) FROM flyte_data_item ORDER BY key

-- name: items
SELECT key, content_type, value, description FROM flyte_data_item WHERE key = ANY($1) ORDER BY key

-- name: note_lengths
SELECT ROW(kind, key), length(value) FROM flyte_note ORDER BY kind, key

-- name: notes
SELECT kind, key, value FROM flyte_note JOIN unnest($1::text[], $2::text[]) AS n (kind, key) USING (kind, key)
ORDER BY kind, key

-- name: event_lengths
SELECT seq, length(payload) + coalesce(length(decisions), 0) FROM flyte_event ORDER BY seq

-- name: event_columns
event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure

-- name: events
SELECT {event_columns}, decisions FROM flyte_event WHERE seq = ANY($1) ORDER BY seq

-- name: action_lengths
SELECT seq, length(input) + length(context) FROM flyte_action ORDER BY seq

-- name: actions
SELECT a.seq, a.action_id, e.correlation_id, e.flow_name, e.flow_uuid, a.step_id, a.step_index, a.command, a.pack_name,
  a.labels, a.input, a.context, a.timeout, t.event_id, a.states, r.event_id, a.due_at, a.wait, a.attempt
FROM flyte_action a JOIN flyte_execution e ON e.seq = a.execution_seq
JOIN flyte_event t ON t.seq = a.trigger_seq LEFT JOIN flyte_event r ON r.seq = a.result_seq
WHERE a.seq = ANY($1) ORDER BY a.seq

-- name: attempts
SELECT m.action_seq, seed, lease, number, m.pack_id, taken_at, lost_at, v.event_id
FROM flyte_attempt m LEFT JOIN flyte_event v ON v.seq = late_seq
WHERE m.action_seq = ANY($1) ORDER BY m.action_seq, number

-- name: key_lengths
SELECT key, 0 FROM flyte_event_key ORDER BY key

-- name: keys
SELECT key, event_id, kept_at FROM flyte_event_key WHERE key = ANY($1) ORDER BY key

-- name: lock
LOCK TABLE flyte_loading IN EXCLUSIVE MODE

-- name: has_records
SELECT EXISTS (SELECT FROM flyte_pack) OR EXISTS (SELECT FROM flyte_flow_version) OR EXISTS (SELECT FROM flyte_flow)
  OR EXISTS (SELECT FROM flyte_data_item) OR EXISTS (SELECT FROM flyte_note) OR EXISTS (SELECT FROM flyte_event)
  OR EXISTS (SELECT FROM flyte_action) OR EXISTS (SELECT FROM flyte_event_key)

-- name: begin
INSERT INTO flyte_loading VALUES ($1, $2)

-- name: advance
UPDATE flyte_loading SET records = $1, checksum = $2

-- name: end
DELETE FROM flyte_loading

-- name: load_pack
INSERT INTO flyte_pack VALUES ($1, $2, $3, $4)

-- name: load_version
INSERT INTO flyte_flow_version VALUES ($1, $2, $3, $4)

-- name: load_flow
INSERT INTO flyte_flow VALUES ($1, $2)

-- name: load_timetable
INSERT INTO flyte_timetable VALUES ($1, $2, $3, $4, $5)

-- name: load_item
INSERT INTO flyte_data_item VALUES ($1, $2, $3, $4)

-- name: load_note
INSERT INTO flyte_note VALUES ($1, $2, $3)

-- name: load_events
WITH loaded AS (
  INSERT INTO flyte_event ({event_columns}, referrers, decisions)
  SELECT n.event_id, n.name, n.pack_id, n.pack_name, n.labels, n.payload, n.received_at, n.created_at, n.failure, 0,
    n.decisions
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::text[],
      $9::boolean[], $10::bytea[])
    WITH ORDINALITY AS n (event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure, decisions,
      place)
  ORDER BY n.place
  RETURNING seq, event_id
)
INSERT INTO flyte_flow_event
SELECT d.flow_name, loaded.seq
FROM unnest($11::text[], $12::text[]) AS d (flow_name, event_id) JOIN loaded USING (event_id)

-- name: load_execution
INSERT INTO flyte_execution (correlation_id, flow_name, flow_uuid, changed_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (correlation_id) DO UPDATE SET changed_at = greatest(flyte_execution.changed_at, excluded.changed_at)

-- name: load_actions
INSERT INTO flyte_action (action_id, execution_seq, step_index, step_id, pack_name, labels, command, trigger_seq,
  result_seq, state, since, states, context, input, attempt, timeout, due_at, wait)
SELECT n.action_id, e.seq, n.step_index, n.step_id, n.pack_name, n.labels, n.command, t.seq, r.seq,
  n.state, n.since, n.states, n.context, n.input, n.attempt, n.timeout, n.due_at, n.wait
FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::bigint[], $12::text[], $13::bytea[], $14::bytea[], $15::int[], $16::bigint[], $17::bigint[],
    $18::bigint[])
  WITH ORDINALITY AS n (action_id, correlation_id, step_index, step_id, pack_name, labels, command, trigger_id, result_id,
    state, since, states, context, input, attempt, timeout, due_at, wait, place)
JOIN flyte_execution e USING (correlation_id) JOIN flyte_event t ON t.event_id = n.trigger_id
LEFT JOIN flyte_event r ON r.event_id = n.result_id
ORDER BY n.place

-- name: load_attempt
INSERT INTO flyte_attempt (action_seq, lease, number, pack_id, taken_at, lost_at, late_seq)
SELECT seq, $2, $3, $4, $5, $6, (SELECT seq FROM flyte_event WHERE event_id = $7) FROM flyte_action WHERE action_id = $1

-- name: add_referrers
UPDATE flyte_event v SET referrers = v.referrers + referred.times, action_seq = coalesce(a.seq, v.action_seq)
FROM (
  SELECT event_id, count(*)::int AS times, max(action_id) AS action_id
  FROM unnest($1::text[], $2::text[]) AS n (event_id, action_id) GROUP BY event_id
) referred LEFT JOIN flyte_action a USING (action_id)
WHERE v.event_id = referred.event_id

-- name: load_key
INSERT INTO flyte_event_key VALUES ($1, $2, $3)
