-- Events, actions and executions, as the writer reads them one at a time.

-- name: last_event
SELECT ifnull(max(seq), 0) FROM event

-- name: last_execution
SELECT ifnull(max(seq), 0) FROM execution

-- name: last_action
SELECT ifnull(max(seq), 0) FROM action

-- name: find_key
SELECT event_id, kept_at FROM event_key WHERE key = ?

-- name: find_execution
SELECT seq FROM execution WHERE correlation_id = ?

-- The number of changes of an action's state is its revision: a comma separates two states.
-- name: find
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.queue_id, a.state, a.context, a.result_seq,
  a.attempt, a.timeout, a.due_at, e.correlation_id, e.flow_name, e.flow_uuid,
  length(a.states) - length(replace(a.states, ',', ''))
FROM action a JOIN execution e ON e.seq = a.execution_seq

-- name: find_by_id
{find}
WHERE a.action_id = ?

-- name: find_by_seq
{find}
WHERE a.seq = ?

-- name: input
SELECT input FROM action WHERE seq = ?

-- name: siblings
SELECT step_id, step_index, state FROM action WHERE execution_seq = ?

-- name: leases
SELECT number, lease, lost_at IS NOT NULL FROM attempt WHERE action_seq = ? ORDER BY number

-- name: late_result
SELECT late_seq FROM attempt WHERE action_seq = ? AND number = ?

-- name: set_late_result
UPDATE attempt SET late_seq = ? WHERE action_seq = ? AND number = ?
