-- Reads. Numbers of rows are passed as a JSON array. A statement without its end gets conditions, order and limit.

-- name: numbers
(SELECT value FROM json_each(?))

-- name: events
SELECT v.seq, v.event_id, s.name, s.pack_id, s.pack_name, s.labels, v.payload, v.received_at, v.created_at, v.failure
FROM event v JOIN source s ON s.source_id = v.source_id WHERE v.seq IN {numbers}

-- name: event_seq
SELECT seq FROM event WHERE event_id = ?

-- name: decisions
SELECT v.seq, v.decisions, a.action_id FROM event v LEFT JOIN action a ON a.seq = v.action_seq
WHERE v.seq IN {numbers}

-- name: event_sizes
SELECT seq, length(payload) + ifnull(length(decisions), 0) FROM event WHERE seq IN {numbers} GROUP BY 1

-- name: sources
SELECT source_id FROM source WHERE name = ifnull(?, name) AND pack_name = ifnull(?, pack_name)

-- name: newest_events
SELECT seq FROM event WHERE source_id = ? ORDER BY seq DESC LIMIT ?

-- name: event_page
SELECT v.seq FROM event v

-- name: flow_event_page
SELECT v.seq FROM flow_event f CROSS JOIN event v ON v.seq = f.event_seq

-- name: execution_seq
SELECT seq FROM execution WHERE correlation_id = ?

-- name: action_place
SELECT seq, execution_seq FROM action WHERE action_id = ?

-- name: executions
SELECT seq, correlation_id, flow_name, flow_uuid FROM execution WHERE seq IN {numbers}

-- name: actions
SELECT a.execution_seq, a.trigger_seq, a.result_seq, a.action_id, q.command, q.pack_name, q.labels, a.input,
  a.step_id, a.step_index, a.context, a.states, a.due_at, a.seq, a.timeout
FROM action a JOIN queue q ON q.queue_id = a.queue_id WHERE a.execution_seq IN {numbers} ORDER BY a.seq

-- name: attempts
SELECT action_seq, number, pack_id, taken_at, lost_at, late_seq FROM attempt
WHERE action_seq IN {numbers} ORDER BY action_seq, number

-- The length of a column is in its row's header: none of the potentially long data is read for it.
-- name: execution_sizes
SELECT a.execution_seq, ifnull(length(v.flow), 0)
  + sum(length(a.input) + length(a.context) + length(t.payload) + ifnull(length(r.payload), 0))
FROM action a JOIN event t ON t.seq = a.trigger_seq LEFT JOIN event r ON r.seq = a.result_seq
JOIN execution e ON e.seq = a.execution_seq LEFT JOIN flow_version v ON v.uuid = e.flow_uuid
WHERE a.execution_seq IN {numbers} GROUP BY 1

-- name: execution_page
SELECT e.seq FROM execution e

-- name: queues
SELECT queue_id, labels FROM queue WHERE command = ifnull(?, command) AND pack_name = ifnull(?, pack_name)

-- name: count_actions
SELECT count(*) FROM (SELECT 1 FROM action WHERE queue_id IN {numbers} LIMIT ?)

-- Conditions of an execution page: the actions of few queues are looked up first, else each execution's.
-- name: in_few_queues
e.seq IN (SELECT execution_seq FROM action WHERE queue_id IN {numbers})

-- name: in_few_queues_with_step
e.seq IN (SELECT execution_seq FROM action WHERE queue_id IN {numbers} AND step_id = ?)

-- name: has_step
EXISTS (SELECT 1 FROM action a WHERE a.execution_seq = e.seq AND a.step_id = ?)

-- name: has_queue
EXISTS (SELECT 1 FROM action a WHERE a.execution_seq = e.seq AND a.queue_id IN {numbers})

-- name: has_step_in_queue
EXISTS (SELECT 1 FROM action a WHERE a.execution_seq = e.seq AND a.step_id = ? AND a.queue_id IN {numbers})

-- name: action_page
SELECT a.action_id, q.command, q.pack_name, q.labels, e.correlation_id, e.flow_name, a.step_id, a.states, a.attempt,
  a.due_at
FROM action a JOIN queue q ON q.queue_id = a.queue_id JOIN execution e ON e.seq = a.execution_seq

-- The time of the last change of state is the number at the end of `states`.
-- name: is_overdue
(a.state = 'UNKNOWN' OR (a.state = 'PENDING' AND (
  a.due_at <= ? OR CAST(substr(a.states, length(rtrim(a.states, '0123456789')) + 1) AS INTEGER) < ?
)))

-- name: pack
SELECT declaration, last_seen_at FROM pack WHERE pack_id = ?

-- name: packs
SELECT pack_id, declaration, last_seen_at FROM pack ORDER BY name, pack_id

-- name: flows
SELECT f.name, f.uuid, v.flow, v.saved_at FROM flow f LEFT JOIN flow_version v ON v.uuid = f.uuid ORDER BY f.name

-- name: current_versions
SELECT name, uuid FROM flow

-- name: flow_version
SELECT flow, saved_at FROM flow_version WHERE uuid = ?

-- name: items
SELECT key, content_type, value, description FROM data_item ORDER BY key

-- name: loading
SELECT 1 FROM loading

-- With "? IS NULL OR" in one statement, the search would begin at the first key each time.
-- name: notes
SELECT key, value FROM note WHERE kind = ?1 ORDER BY key LIMIT ?3

-- name: notes_backwards
SELECT key, value FROM note WHERE kind = ?1 ORDER BY key DESC LIMIT ?3

-- name: notes_after
SELECT key, value FROM note WHERE kind = ?1 AND key > ?2 ORDER BY key LIMIT ?3

-- name: notes_before
SELECT key, value FROM note WHERE kind = ?1 AND key < ?2 ORDER BY key DESC LIMIT ?3

-- name: nothing
SELECT count(*) FROM sqlite_schema
