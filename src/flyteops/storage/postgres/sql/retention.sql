-- Removal of old data.

-- name: is_finished
NOT EXISTS (SELECT FROM flyte_action a WHERE a.execution_seq = e.seq AND a.state NOT IN ('SUCCESS', 'FATAL'))

-- name: is_unused
NOT EXISTS (SELECT FROM flyte_flow f WHERE f.uuid = v.uuid)
  AND NOT EXISTS (SELECT FROM flyte_execution e WHERE e.flow_uuid = v.uuid)
  AND NOT (v.uuid = ANY($1::text[]))

-- name: old_executions
SELECT seq FROM flyte_execution WHERE changed_at < $1 ORDER BY changed_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED

-- name: finished_executions
SELECT e.seq FROM flyte_execution e
WHERE e.changed_at < $1 AND {is_finished}
ORDER BY e.changed_at, e.seq LIMIT $2 FOR UPDATE SKIP LOCKED

-- name: oldest_finished_execution
SELECT min(e.changed_at) FROM flyte_execution e WHERE {is_finished}

-- name: oldest_free_event
SELECT min(received_at) FROM flyte_event WHERE referrers = 0

-- Returns the approximate bytes: rows and index entries by a mean, long values by stored size.
-- name: delete_actions
WITH gone AS (
    DELETE FROM flyte_action WHERE execution_seq = ANY($1)
    RETURNING seq, trigger_seq, result_seq, 700 + pg_column_size(input) + pg_column_size(context) AS bytes
  ),
  attempts AS (DELETE FROM flyte_attempt WHERE action_seq IN (SELECT seq FROM gone) RETURNING late_seq),
  referred AS (
    SELECT seq, count(*)::int AS times
    FROM (
      SELECT trigger_seq AS seq FROM gone UNION ALL SELECT result_seq FROM gone UNION ALL SELECT late_seq FROM attempts
    ) events
    WHERE seq IS NOT NULL GROUP BY seq
  ),
  released AS (
    UPDATE flyte_event v SET referrers = v.referrers - referred.times FROM referred WHERE v.seq = referred.seq
  )
SELECT coalesce(sum(bytes), 0) FROM gone

-- name: delete_executions
DELETE FROM flyte_execution WHERE seq = ANY($1)

-- name: delete_events
WITH gone AS (
    DELETE FROM flyte_event WHERE seq IN (
      SELECT seq FROM flyte_event WHERE referrers = 0 AND received_at < $1 ORDER BY received_at LIMIT $2
      FOR UPDATE SKIP LOCKED
    )
    RETURNING seq, 400 + pg_column_size(payload) + coalesce(pg_column_size(decisions), 0) AS bytes
  ),
  decided AS (DELETE FROM flyte_flow_event WHERE event_seq IN (SELECT seq FROM gone))
SELECT bytes FROM gone

-- name: delete_keys
DELETE FROM flyte_event_key WHERE key IN (
  SELECT key FROM flyte_event_key WHERE kept_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING 1

-- name: mark_versions_used
UPDATE flyte_flow_version v SET unused_since = NULL WHERE unused_since IS NOT NULL AND NOT ({is_unused})

-- name: mark_versions_unused
UPDATE flyte_flow_version v SET unused_since = $2 WHERE unused_since IS NULL AND {is_unused}

-- name: unused_versions
SELECT uuid, octet_length(flow), unused_since FROM flyte_flow_version WHERE unused_since IS NOT NULL
ORDER BY saved_at, uuid

-- name: delete_versions
DELETE FROM flyte_flow_version WHERE uuid = ANY($1)

-- name: used_bytes
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
WHERE c.relkind = 'r' AND starts_with(c.relname, 'flyte_') AND pg_table_is_visible(c.oid)

-- name: freed_bytes
SELECT name, value FROM flyte_number WHERE name IN ('freed', 'sizeThen') ORDER BY name FOR UPDATE

-- name: set_freed_bytes
INSERT INTO flyte_number VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
