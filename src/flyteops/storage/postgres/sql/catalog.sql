-- Changes of packs, flows, datastore items and notes. The reads are in queries.sql.

-- name: save_pack
INSERT INTO flyte_pack VALUES ($1, $2, $3, $4) ON CONFLICT (pack_id) DO UPDATE SET
  name = excluded.name, declaration = excluded.declaration, last_seen_at = excluded.last_seen_at

-- name: pack_last_seen
SELECT last_seen_at FROM flyte_pack WHERE pack_id = $1 FOR UPDATE

-- name: delete_pack
DELETE FROM flyte_pack WHERE pack_id = $1

-- In one order, so that servers that do this at the same time do not deadlock.
-- name: touch_packs
UPDATE flyte_pack p SET last_seen_at = s.at
FROM (
  SELECT p.pack_id, s.at
  FROM flyte_pack p JOIN unnest($1::text[], $2::bigint[]) AS s (pack_id, at)
    ON s.pack_id = p.pack_id AND p.last_seen_at < s.at
  ORDER BY 1 FOR UPDATE OF p
) s WHERE p.pack_id = s.pack_id

-- name: has_flow_version
SELECT 1 FROM flyte_flow_version WHERE uuid = $1

-- name: create_flow_version
INSERT INTO flyte_flow_version VALUES ($1, $2, $3, $4)

-- name: set_current_version
INSERT INTO flyte_flow VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET uuid = excluded.uuid

-- name: replace_timetables
DELETE FROM flyte_timetable WHERE flow_name = $1 RETURNING step_id, rule, next_at

-- name: create_timetable
INSERT INTO flyte_timetable VALUES ($1, $2, $3, $4, $5)

-- name: delete_flow
DELETE FROM flyte_flow WHERE name = $1 RETURNING name

-- name: delete_timetables
DELETE FROM flyte_timetable WHERE flow_name = $1

-- The system column is zero in a row that was inserted, the lock's owner in one that existed.
-- name: save_item
INSERT INTO flyte_data_item VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO UPDATE SET
  content_type = excluded.content_type, description = excluded.description, value = excluded.value
RETURNING xmax = 0

-- name: delete_item
DELETE FROM flyte_data_item WHERE key = $1 RETURNING key

-- name: save_note
INSERT INTO flyte_note VALUES ($1, $2, $3) ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value
RETURNING key

-- name: create_note
INSERT INTO flyte_note VALUES ($1, $2, $3) ON CONFLICT (kind, key) DO NOTHING RETURNING key

-- name: note_value
SELECT value FROM flyte_note WHERE kind = $1 AND key = $2

-- name: delete_note
DELETE FROM flyte_note WHERE kind = $1 AND key = $2 RETURNING key

-- name: delete_notes
DELETE FROM flyte_note WHERE kind = $1 AND key IN
  (SELECT key FROM flyte_note WHERE kind = $1 AND key <= $2 ORDER BY key LIMIT $3)
