-- Queues of actions, and the sources of events.

-- name: list_queues
SELECT queue_id, pack_name, command, labels FROM queue

-- name: insert_queue
INSERT INTO queue (pack_name, command, labels) VALUES (?, ?, ?) RETURNING queue_id

-- name: has_actions
SELECT 1 FROM action WHERE queue_id = ? LIMIT 1

-- name: delete_queue
DELETE FROM queue WHERE queue_id = ?

-- The oldest NEW actions of a queue, as they are found once they are claimed. Long contexts and inputs are left out.
-- name: head
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.queue_id, 'PENDING',
  iif(length(a.context) <= ?, a.context, x''), NULL, a.attempt + 1, a.timeout, NULL,
  e.correlation_id, e.flow_name, e.flow_uuid,
  length(a.states) - length(replace(a.states, ',', '')) + 1,
  NOT EXISTS (SELECT 1 FROM action other WHERE other.execution_seq = a.execution_seq AND other.seq <> a.seq),
  iif(length(a.input) <= ?, a.input, NULL)
FROM action a JOIN execution e ON e.seq = a.execution_seq
WHERE a.queue_id = ? AND a.state = 'NEW' ORDER BY a.seq LIMIT ?

-- name: find_source
SELECT source_id FROM source WHERE name = ? AND pack_name = ? AND pack_id = ? AND labels = ?

-- name: insert_source
INSERT INTO source (name, pack_name, pack_id, labels) VALUES (?, ?, ?, ?) RETURNING source_id

-- name: has_events
SELECT 1 FROM event WHERE source_id = ? LIMIT 1

-- name: delete_source
DELETE FROM source WHERE source_id = ?
