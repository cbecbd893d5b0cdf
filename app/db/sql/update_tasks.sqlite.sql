-- Write changed tasks that still have the version they were read with.
UPDATE tasks
SET
    status = json_extract(value, '$.status'),
    upstream_task_id = json_extract(value, '$.upstream_task_id'),
    attempts = json_extract(value, '$.attempts'),
    failures = json_extract(value, '$.failures'),
    claimed_at = json_extract(value, '$.claimed_at'),
    claimed_by = json_extract(value, '$.claimed_by'),
    submitted_at = json_extract(value, '$.submitted_at'),
    completed_at = json_extract(value, '$.completed_at'),
    updated_at = json_extract(value, '$.updated_at'),
    not_before = json_extract(value, '$.not_before'),
    ask_at = json_extract(value, '$.ask_at'),
    asked_at = json_extract(value, '$.asked_at'),
    asks = json_extract(value, '$.asks'),
    deadline_at = json_extract(value, '$.deadline_at'),
    callbacks = json_extract(value, '$.callbacks'),
    error_code = json_extract(value, '$.error.code'),
    error_message = json_extract(value, '$.error.message'),
    error_upstream_code = json_extract(value, '$.error.upstream_code'),
    version = version + 1
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$.id') AND tasks.version = json_extract(value, '$.version')
