-- Insert planned webhook deliveries.
INSERT INTO webhook_deliveries (
    id, task_id, project, event, url, host, snapshot, state, tries, attempts, next_attempt_at, due_at, claimed_by,
    created_at
)
SELECT
    json_extract(value, '$.id'),
    json_extract(value, '$.task_id'),
    json_extract(value, '$.project'),
    json_extract(value, '$.event'),
    json_extract(value, '$.url'),
    json_extract(value, '$.host'),
    json_extract(value, '$.snapshot'),
    json_extract(value, '$.state'),
    json_extract(value, '$.tries'),
    json_extract(value, '$.attempts'),
    json_extract(value, '$.next_attempt_at'),
    json_extract(value, '$.due_at'),
    json_extract(value, '$.claimed_by'),
    json_extract(value, '$.created_at')
FROM json_each(:rows)
