-- The checks of the database file: the token of its generation, and its tables and indexes.

-- name: token_page
SELECT rootpage FROM sqlite_schema WHERE name = 'generation'

-- name: token
SELECT token FROM generation

-- name: renew_token
INSERT OR REPLACE INTO generation VALUES (1, ?, ?)

-- name: objects
SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'
