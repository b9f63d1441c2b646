-- Changes of packs, flows, datastore items and notes. The reads are in queries.sql.

-- name: save_pack
INSERT OR REPLACE INTO pack VALUES (?,?,?,?)

-- name: pack_last_seen
SELECT last_seen_at FROM pack WHERE pack_id = ?

-- name: delete_pack
DELETE FROM pack WHERE pack_id = ?

-- name: touch_packs
UPDATE pack SET last_seen_at = ? WHERE pack_id = ? AND last_seen_at < ?

-- name: create_flow_version
INSERT INTO flow_version (uuid, name, flow, saved_at) VALUES (?,?,?,?)

-- name: set_current_version
INSERT OR REPLACE INTO flow VALUES (?,?)

-- name: replace_timetables
DELETE FROM timetable WHERE flow_name = ? RETURNING step_id, rule, next_at

-- name: create_timetable
INSERT INTO timetable VALUES (?,?,?,?,?)

-- name: delete_flow
DELETE FROM flow WHERE name = ?

-- name: delete_timetables
DELETE FROM timetable WHERE flow_name = ?

-- name: has_item
SELECT 1 FROM data_item WHERE key = ?

-- name: save_item
INSERT INTO data_item VALUES (?,?,?,?) ON CONFLICT (key) DO UPDATE SET
  content_type = excluded.content_type, description = excluded.description, value = excluded.value

-- name: delete_item
DELETE FROM data_item WHERE key = ?

-- name: save_note
INSERT INTO note VALUES (?,?,?) ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value

-- name: create_note
INSERT INTO note VALUES (?,?,?) ON CONFLICT (kind, key) DO NOTHING

-- name: delete_note
DELETE FROM note WHERE kind = ? AND key = ?

-- name: delete_notes
DELETE FROM note WHERE kind = ?1 AND key IN
  (SELECT key FROM note WHERE kind = ?1 AND key <= ?2 ORDER BY key LIMIT ?3)
