-- Insert the images of tasks that succeeded.
INSERT INTO images (
    id, task_id, position, source_url, state, reason, next_try_at, tries
)
SELECT
    json_extract(value, '$.id'),
    json_extract(value, '$.task_id'),
    json_extract(value, '$.position'),
    json_extract(value, '$.source_url'),
    json_extract(value, '$.state'),
    json_extract(value, '$.reason'),
    json_extract(value, '$.next_try_at'),
    0
FROM json_each(:rows)
