-- Export and import. The export also reads the packs of queries.sql.

-- name: checkpoint
SELECT records, checksum FROM loading

-- By time, for human readers; by id where that is equal, so that every store gives the same order.
-- name: versions
SELECT uuid, flow, saved_at FROM flow_version ORDER BY saved_at, uuid

-- name: flows
SELECT name, uuid FROM flow ORDER BY name

-- name: timetables
SELECT step_index, step_id, rule, next_at FROM timetable WHERE flow_name = ? ORDER BY step_index

-- name: items
SELECT key, content_type, value, description FROM data_item ORDER BY key

-- name: notes
SELECT kind, key, value FROM note ORDER BY kind, key

-- name: events
SELECT v.event_id, s.name, s.pack_id, s.pack_name, s.labels, v.payload, v.received_at, v.created_at, v.failure,
  v.decisions
FROM event v JOIN source s ON s.source_id = v.source_id ORDER BY v.seq

-- name: actions
SELECT a.seq, a.action_id, e.correlation_id, e.flow_name, e.flow_uuid, a.step_id, a.step_index, q.command, q.pack_name,
  q.labels, a.input, a.context, a.timeout, t.event_id, a.states, r.event_id, a.due_at, a.wait, a.attempt
FROM action a JOIN execution e ON e.seq = a.execution_seq JOIN queue q ON q.queue_id = a.queue_id
JOIN event t ON t.seq = a.trigger_seq LEFT JOIN event r ON r.seq = a.result_seq ORDER BY a.seq

-- name: attempts
SELECT lease, number, pack_id, taken_at, lost_at, v.event_id
FROM attempt m LEFT JOIN event v ON v.seq = late_seq WHERE m.action_seq = ? ORDER BY number

-- name: keys
SELECT key, event_id, kept_at FROM event_key ORDER BY key

-- name: has_records
SELECT EXISTS (SELECT 1 FROM pack) OR EXISTS (SELECT 1 FROM flow_version) OR EXISTS (SELECT 1 FROM flow)
  OR EXISTS (SELECT 1 FROM data_item) OR EXISTS (SELECT 1 FROM note) OR EXISTS (SELECT 1 FROM event)
  OR EXISTS (SELECT 1 FROM action) OR EXISTS (SELECT 1 FROM event_key)

-- name: begin
INSERT INTO loading VALUES (?,?)

-- name: advance
UPDATE loading SET records = ?, checksum = ?

-- name: end
DELETE FROM loading

-- name: load_pack
INSERT INTO pack VALUES (?,?,?,?)

-- name: load_version
INSERT INTO flow_version (uuid, name, flow, saved_at) VALUES (?,?,?,?)

-- name: load_flow
INSERT INTO flow VALUES (?,?)

-- name: load_timetable
INSERT INTO timetable VALUES (?,?,?,?,?)

-- name: load_item
INSERT INTO data_item VALUES (?,?,?,?)

-- name: load_note
INSERT INTO note VALUES (?,?,?)

-- name: load_source
INSERT OR IGNORE INTO source (name, pack_id, pack_name, labels) VALUES (?,?,?,?)

-- name: load_event
INSERT INTO event (event_id, received_at, created_at, referrers, payload, failure, decisions, source_id)
SELECT ?,?,?,0,?,?,?, source_id FROM source WHERE name = ? AND pack_id = ? AND pack_name = ? AND labels = ?

-- name: load_flow_event
INSERT INTO flow_event SELECT ?, seq FROM event WHERE event_id = ?

-- name: load_queue
INSERT OR IGNORE INTO queue (pack_name, command, labels) VALUES (?,?,?)

-- name: load_execution
INSERT INTO execution (correlation_id, flow_name, flow_uuid, changed_at) VALUES (?,?,?,?)
ON CONFLICT (correlation_id) DO UPDATE SET changed_at = max(changed_at, excluded.changed_at)

-- name: load_action
INSERT INTO action (action_id, step_index, step_id, state, states, context, input, attempt, timeout, due_at, wait,
  execution_seq, trigger_seq, result_seq, queue_id)
SELECT ?,?,?,?,?,?,?,?,?,?,?,
  (SELECT seq FROM execution WHERE correlation_id = ?),
  (SELECT seq FROM event WHERE event_id = ?),
  (SELECT seq FROM event WHERE event_id = ?),
  queue_id
FROM queue WHERE pack_name = ? AND command = ? AND labels = ?

-- name: load_attempt
INSERT INTO attempt (action_seq, lease, number, pack_id, taken_at, lost_at, late_seq)
VALUES (
  (SELECT seq FROM action WHERE action_id = ?), ?,?,?,?,?, (SELECT seq FROM event WHERE event_id = ?)
)

-- name: add_referrer
UPDATE event SET referrers = referrers + 1 WHERE event_id = ?

-- name: add_referring_action
UPDATE event SET referrers = referrers + 1, action_seq = (SELECT seq FROM action WHERE action_id = ?)
WHERE event_id = ?

-- name: load_key
INSERT INTO event_key VALUES (?,?,?)
