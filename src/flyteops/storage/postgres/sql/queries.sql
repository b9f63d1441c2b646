-- Reads. A statement without its end gets conditions, order and limit.

-- name: events
SELECT seq, event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure
FROM flyte_event WHERE seq = ANY($1)

-- name: event_seq
SELECT seq FROM flyte_event WHERE event_id = $1

-- name: decisions
SELECT v.seq, v.decisions, a.action_id FROM flyte_event v LEFT JOIN flyte_action a ON a.seq = v.action_seq
WHERE v.seq = ANY($1)

-- name: event_page
SELECT v.seq, length(v.payload) + coalesce(length(v.decisions), 0) FROM flyte_event v

-- The newest events for each key under which events are listed ($1); one may be listed under several.
-- name: listed_event_page
SELECT DISTINCT c.seq, c.size FROM unnest($1::text[]) AS k (key) CROSS JOIN LATERAL (
  SELECT v.seq, length(v.payload) + coalesce(length(v.decisions), 0) AS size
  FROM flyte_flow_event f JOIN flyte_event v ON v.seq = f.event_seq WHERE f.flow_name = k.key

-- name: unused_keys
SELECT k.key FROM unnest($1::text[]) AS k (key)
WHERE NOT EXISTS (SELECT FROM flyte_flow_event f WHERE f.flow_name = k.key)

-- name: execution_seq
SELECT seq FROM flyte_execution WHERE correlation_id = $1

-- name: action_place
SELECT execution_seq FROM flyte_action WHERE action_id = $1

-- name: executions
SELECT seq, correlation_id, flow_name, flow_uuid FROM flyte_execution WHERE seq = ANY($1)

-- name: actions
SELECT execution_seq, trigger_seq, result_seq, action_id, command, pack_name, labels, input,
  step_id, step_index, context, states, due_at, seq, timeout
FROM flyte_action WHERE execution_seq = ANY($1) ORDER BY seq

-- name: attempts
SELECT action_seq, number, pack_id, taken_at, lost_at, late_seq FROM flyte_attempt
WHERE action_seq = ANY($1) ORDER BY action_seq, number

-- name: execution_sizes
SELECT a.execution_seq, coalesce(max(length(v.flow)), 0)
  + sum(length(a.input) + length(a.context) + length(t.payload) + coalesce(length(r.payload), 0))
FROM flyte_action a JOIN flyte_event t ON t.seq = a.trigger_seq LEFT JOIN flyte_event r ON r.seq = a.result_seq
JOIN flyte_execution e ON e.seq = a.execution_seq LEFT JOIN flyte_flow_version v ON v.uuid = e.flow_uuid
WHERE a.execution_seq = ANY($1) GROUP BY 1

-- name: execution_page
SELECT e.seq FROM flyte_execution e

-- name: action_page
SELECT a.action_id, a.command, a.pack_name, a.labels, e.correlation_id, e.flow_name, a.step_id, a.states, a.attempt,
  a.due_at
FROM flyte_action a JOIN flyte_execution e ON e.seq = a.execution_seq

-- name: pack
SELECT declaration, last_seen_at FROM flyte_pack WHERE pack_id = $1

-- name: packs
SELECT pack_id, declaration, last_seen_at FROM flyte_pack ORDER BY name, pack_id

-- name: flows
SELECT f.name, f.uuid, v.flow, v.saved_at
FROM flyte_flow f LEFT JOIN flyte_flow_version v ON v.uuid = f.uuid ORDER BY f.name

-- name: current_versions
SELECT name, uuid FROM flyte_flow

-- name: flow_version
SELECT flow, saved_at FROM flyte_flow_version WHERE uuid = $1

-- name: items
SELECT key, content_type, value, description FROM flyte_data_item ORDER BY key

-- With "$3 IS NULL OR" in one statement, the search would begin at the first key each time.
-- name: notes
SELECT key, value FROM flyte_note WHERE kind = $1 ORDER BY key LIMIT $2

-- name: notes_backwards
SELECT key, value FROM flyte_note WHERE kind = $1 ORDER BY key DESC LIMIT $2

-- name: notes_after
SELECT key, value FROM flyte_note WHERE kind = $1 AND key > $3 ORDER BY key LIMIT $2

-- name: notes_before
SELECT key, value FROM flyte_note WHERE kind = $1 AND key < $3 ORDER BY key DESC LIMIT $2

-- name: change_counters
SELECT name, value, clock_timestamp(), EXISTS (SELECT FROM flyte_loading) FROM flyte_number
WHERE name IN ('flows', 'items', 'packs', 'notes', 'store')

-- name: store_number
SELECT value FROM flyte_number WHERE name = 'store'

-- name: missing_tables
SELECT t FROM unnest($1::text[]) t WHERE to_regclass(t) IS NULL

-- A write without an effect, so that a server that cannot write is noticed.
-- name: write_nothing
UPDATE flyte_number SET value = value WHERE name = 'schema'
