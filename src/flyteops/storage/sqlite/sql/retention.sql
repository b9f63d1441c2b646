-- Removal of old data.

-- name: is_finished
NOT EXISTS (SELECT 1 FROM action a WHERE a.execution_seq = e.seq AND a.state NOT IN ('SUCCESS', 'FATAL'))

-- name: is_unused
uuid NOT IN (SELECT uuid FROM flow)
  AND NOT EXISTS (SELECT 1 FROM execution WHERE execution.flow_uuid = flow_version.uuid)
  AND uuid NOT IN (SELECT value FROM json_each(?))

-- name: old_executions
SELECT seq FROM execution WHERE changed_at < ? ORDER BY changed_at LIMIT ?

-- name: finished_executions
SELECT e.seq, e.changed_at FROM execution e
WHERE e.changed_at >= ? AND e.changed_at < ? AND {is_finished}
ORDER BY e.changed_at LIMIT ?

-- name: oldest_finished_execution
SELECT min(e.changed_at) FROM execution e WHERE e.changed_at >= ? AND {is_finished}

-- name: oldest_free_event
SELECT min(received_at) FROM event WHERE referrers = 0

-- name: delete_actions
DELETE FROM action WHERE execution_seq = ? RETURNING queue_id, trigger_seq, result_seq, seq, timeout

-- name: delete_attempts
DELETE FROM attempt WHERE action_seq = ? RETURNING late_seq

-- name: release_event
UPDATE event SET referrers = referrers - 1 WHERE seq = ?

-- name: delete_execution
DELETE FROM execution WHERE seq = ?

-- Ordered by time like the index, so that the oldest are removed first.
-- name: delete_events
DELETE FROM event WHERE seq IN (
  SELECT seq FROM event WHERE referrers = 0 AND received_at < ? ORDER BY received_at LIMIT ?
)
RETURNING seq, source_id, decisions

-- name: delete_flow_event
DELETE FROM flow_event WHERE flow_name = ? AND event_seq = ?

-- name: delete_damaged_flow_events
DELETE FROM flow_event WHERE event_seq IN (SELECT value FROM json_each(?))

-- name: delete_keys
DELETE FROM event_key WHERE key IN (SELECT key FROM event_key WHERE kept_at < ? LIMIT ?)

-- name: mark_versions_used
UPDATE flow_version SET unused_since = NULL WHERE unused_since IS NOT NULL AND NOT ({is_unused})

-- name: mark_versions_unused
UPDATE flow_version SET unused_since = ? WHERE unused_since IS NULL AND {is_unused}

-- name: unused_versions
SELECT uuid, length(flow), unused_since FROM flow_version WHERE unused_since IS NOT NULL ORDER BY saved_at, uuid

-- name: delete_version
DELETE FROM flow_version WHERE uuid = ?
