-- name: probe
SELECT current_setting('flyte.probe', true)

-- name: process_id
SELECT pg_backend_pid()
