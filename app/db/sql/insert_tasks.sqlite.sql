-- Insert new tasks.
INSERT INTO tasks (
    id, project, subject, model, type, input, metadata, webhook_url, retry_of, status, created_at, updated_at,
    not_before, deadline_at, attempts, failures, asks, callbacks, version
)
SELECT
    json_extract(value, '$.id'),
    json_extract(value, '$.project'),
    json_extract(value, '$.subject'),
    json_extract(value, '$.model'),
    json_extract(value, '$.type'),
    json_extract(value, '$.input'),
    json_extract(value, '$.metadata'),
    json_extract(value, '$.webhook_url'),
    json_extract(value, '$.retry_of'),
    json_extract(value, '$.status'),
    json_extract(value, '$.created_at'),
    json_extract(value, '$.updated_at'),
    json_extract(value, '$.not_before'),
    json_extract(value, '$.deadline_at'),
    0,
    0,
    0,
    0,
    0
FROM json_each(:rows)
