-- Leases, delays and schedules.

-- name: extend_lease
UPDATE flyte_action SET due_at = $1 WHERE seq = $2

-- Numbers that nothing but damage can make are cut to half of the range, so that no sum of one row stops the others.
-- name: renew_leases
UPDATE flyte_action SET due_at = $1 + least(timeout, 4611686018427387904)
WHERE state = 'PENDING' AND (due_at <= $1 + least(timeout, 4611686018427387904) OR due_at > $1 + least(timeout, 4611686018427387904) + $2)

-- name: last_activity
SELECT value FROM flyte_note WHERE kind = $1 AND key = '' FOR UPDATE

-- name: set_last_activity
INSERT INTO flyte_note VALUES ($1, '', $2) ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value

-- name: now
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: undo_attempt
DELETE FROM flyte_attempt WHERE action_seq = $1 AND number = $2

-- name: uncount_attempt
UPDATE flyte_action SET attempt = attempt - 1 WHERE seq = $1

-- name: lose_attempt
UPDATE flyte_attempt SET lost_at = $1 WHERE action_seq = $2 AND number = $3 AND lost_at IS NULL

-- name: change_state
UPDATE flyte_action SET state = $1, since = $2, states = states || $3, due_at = $4, wait = $5 WHERE seq = $6

-- name: touch_execution
UPDATE flyte_execution SET changed_at = greatest(changed_at, $1) WHERE seq = $2

-- name: shift_timers
UPDATE flyte_action SET due_at = least(greatest(due_at, -4611686018427387904), 4611686018427387904) + $1 WHERE due_at IS NOT NULL

-- Regardless of the clock when it was taken or began to wait, nothing may take longer than intended from now on.
-- name: shorten_leases
UPDATE flyte_action SET due_at = $1 + least(timeout, 4611686018427387904)
WHERE due_at > $1 AND state = 'PENDING' AND due_at > $1 + least(timeout, 4611686018427387904) + $2

-- name: shorten_delays
UPDATE flyte_action SET due_at = $1 + least(wait, 4611686018427387904)
WHERE due_at > $1 AND state = 'LATER' AND due_at > $1 + least(wait, 4611686018427387904) + $2

-- name: due_delays
SELECT seq, action_id, pack_name, labels, command FROM flyte_action WHERE due_at <= $1 AND state = 'LATER'
ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED

-- name: end_delays
UPDATE flyte_action SET state = 'NEW', due_at = NULL WHERE seq = ANY($1)

-- name: due_leases
SELECT seq, action_id FROM flyte_action WHERE due_at <= $1 AND state = 'PENDING'
ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED

-- Schedules of the current versions of their flows.
-- name: due_schedules
SELECT t.flow_name, f.uuid, t.step_index, t.rule, t.next_at
FROM flyte_timetable t JOIN flyte_flow f ON f.name = t.flow_name
WHERE t.next_at <= $1 ORDER BY t.next_at LIMIT $2 FOR UPDATE OF t SKIP LOCKED

-- name: set_next_run
UPDATE flyte_timetable SET next_at = $1 WHERE flow_name = $2 AND step_index = $3

-- name: next_actions
SELECT action_id, due_at FROM flyte_action WHERE due_at IS NOT NULL ORDER BY due_at LIMIT $1

-- name: next_schedules
SELECT t.flow_name, f.uuid, t.step_index, t.next_at
FROM flyte_timetable t JOIN flyte_flow f ON f.name = t.flow_name
WHERE t.next_at IS NOT NULL ORDER BY t.next_at LIMIT $1
