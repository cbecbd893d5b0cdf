-- Append events. SQLite has one writer at a time, so ids grow in the order of commits.
INSERT INTO events (task_id, project, subject, type, snapshot, created_at)
SELECT
    json_extract(value, '$[0]') AS task_id,
    json_extract(value, '$[1]') AS project,
    json_extract(value, '$[2]') AS subject,
    json_extract(value, '$[3]') AS type,
    json_extract(value, '$[4]') AS snapshot,
    json_extract(value, '$[5]') AS created_at
FROM json_each(:rows)
