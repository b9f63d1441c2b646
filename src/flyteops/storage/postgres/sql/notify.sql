-- Notifications of other servers, and the search for waiting actions of which none came.

-- name: notify
SELECT pg_notify($1, $2)

-- Queues with waiting actions and the number of these, at most 100 (`MOST` of `notify.py`). Each step of the recursion is
-- one seek of the index.
-- name: waiting_queues
WITH RECURSIVE kinds AS (
  (SELECT pack_name, labels, command FROM flyte_action WHERE state = 'NEW' ORDER BY pack_name, labels, command LIMIT 1)
  UNION ALL
  SELECT following.* FROM kinds CROSS JOIN LATERAL (
    SELECT pack_name, labels, command FROM flyte_action
    WHERE state = 'NEW' AND (pack_name, labels, command) > (kinds.pack_name, kinds.labels, kinds.command)
    ORDER BY pack_name, labels, command LIMIT 1
  ) following
)
SELECT pack_name, labels, command, (
  SELECT count(*) FROM (
    SELECT FROM flyte_action a
    WHERE state = 'NEW' AND a.pack_name = k.pack_name AND a.labels = k.labels AND a.command = k.command LIMIT 100
  ) waiting
)
FROM kinds k LIMIT 1000
