-- Append events. SQLite has one writer at a time, so ids grow in the order of commits.
INSERT INTO events (
    task_id, project, subject, type, snapshot, created_at
)
SELECT
    json_extract(value, '$.task_id'),
    json_extract(value, '$.project'),
    json_extract(value, '$.subject'),
    json_extract(value, '$.type'),
    json_extract(value, '$.snapshot'),
    json_extract(value, '$.created_at')
FROM json_each(:rows)
