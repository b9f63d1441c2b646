-- The rows that the writer buffers, written in bulk.

-- name: insert_event
INSERT INTO event (seq, event_id, source_id, received_at, created_at, action_seq, referrers, payload, decisions, failure)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_flow_event
INSERT INTO flow_event (flow_name, event_seq) VALUES (?, ?)

-- name: insert_execution
INSERT INTO execution (seq, correlation_id, flow_name, flow_uuid, changed_at) VALUES (?, ?, ?, ?, ?)

-- name: insert_action
INSERT INTO action (seq, action_id, execution_seq, step_index, step_id, queue_id, trigger_seq, state, states, context,
  input, attempt, timeout, due_at, wait)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)

-- name: claim_action
UPDATE action SET state = 'PENDING', states = states || ?, attempt = ? WHERE seq = ?

-- name: finish_action
UPDATE action SET state = ?, states = states || ?, result_seq = ? WHERE seq = ?

-- name: insert_attempt
INSERT INTO attempt (action_seq, number, lease, pack_id, taken_at) VALUES (?, ?, ?, ?, ?)

-- name: set_due
UPDATE action SET due_at = ? WHERE seq = ?

-- name: set_key
INSERT OR REPLACE INTO event_key (key, event_id, kept_at) VALUES (?, ?, ?)

-- name: touch_execution
UPDATE execution SET changed_at = ? WHERE seq = ? AND changed_at < ?
