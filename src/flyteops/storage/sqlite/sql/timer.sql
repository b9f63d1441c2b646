-- Leases, delays and schedules.

-- name: extend_lease
UPDATE action SET due_at = ? WHERE seq = ?

-- Numbers that nothing but damage can make are cut to half of the range, so that no sum of one row stops the others.
-- name: renew_leases
UPDATE action SET due_at = :at + min(timeout, 4611686018427387904)
WHERE state = 'PENDING' AND (due_at <= :at + min(timeout, 4611686018427387904) OR due_at > :at + min(timeout, 4611686018427387904) + :slack)

-- name: undo_attempt
DELETE FROM attempt WHERE action_seq = ? AND number = ?

-- name: uncount_attempt
UPDATE action SET attempt = attempt - 1 WHERE seq = ?

-- name: lose_attempt
UPDATE attempt SET lost_at = ? WHERE action_seq = ? AND number = ? AND lost_at IS NULL

-- name: change_state
UPDATE action SET state = ?, states = states || ?, due_at = ?, wait = ? WHERE seq = ?

-- name: shift_timers
UPDATE action SET due_at = min(max(due_at, -4611686018427387904), 4611686018427387904) + ? WHERE due_at IS NOT NULL

-- Regardless of the clock when it was taken or began to wait, nothing may take longer than intended from now on.
-- name: shorten_leases
UPDATE action SET due_at = ?1 + min(timeout, 4611686018427387904) WHERE due_at > ?1 AND state = 'PENDING' AND due_at > ?1 + min(timeout, 4611686018427387904)

-- name: shorten_delays
UPDATE action SET due_at = ?1 + min(wait, 4611686018427387904) WHERE due_at > ?1 AND state = 'LATER' AND due_at > ?1 + min(wait, 4611686018427387904)

-- name: due_delays
SELECT seq, action_id, queue_id FROM action WHERE due_at <= ? AND state = 'LATER' ORDER BY due_at LIMIT ?

-- name: end_delay
UPDATE action SET state = 'NEW', due_at = NULL WHERE seq = ?

-- name: due_leases
SELECT seq, action_id FROM action WHERE due_at <= ? AND state = 'PENDING' ORDER BY due_at LIMIT ?

-- Schedules of the current versions of their flows.
-- name: due_schedules
SELECT t.flow_name, f.uuid, t.step_index, t.rule, t.next_at
FROM timetable t JOIN flow f ON f.name = t.flow_name
WHERE t.next_at <= ? ORDER BY t.next_at LIMIT ?

-- name: set_next_run
UPDATE timetable SET next_at = ? WHERE flow_name = ? AND step_index = ?

-- name: next_actions
SELECT action_id, due_at FROM action WHERE due_at IS NOT NULL ORDER BY due_at LIMIT ?

-- name: next_schedules
SELECT t.flow_name, f.uuid, t.step_index, t.next_at
FROM timetable t JOIN flow f ON f.name = t.flow_name
WHERE t.next_at IS NOT NULL ORDER BY t.next_at LIMIT ?
