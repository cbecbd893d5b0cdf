-- Write changed tasks that still have the version they were read with.
UPDATE tasks
SET
    status = new.status, upstream_task_id = new.upstream_task_id, attempts = new.attempts, failures = new.failures,
    claimed_at = new.claimed_at, claimed_by = new.claimed_by, submitted_at = new.submitted_at,
    completed_at = new.completed_at, updated_at = new.updated_at, not_before = new.not_before, ask_at = new.ask_at,
    asked_at = new.asked_at, asks = new.asks, deadline_at = new.deadline_at, callbacks = new.callbacks,
    error_code = json_extract(new.error, '$.code'), error_message = json_extract(new.error, '$.message'),
    error_upstream_code = json_extract(new.error, '$.upstream_code'), version = tasks.version + 1
FROM (
    SELECT
        json_extract(value, '$[0]') AS id,
        json_extract(value, '$[1]') AS version,
        json_extract(value, '$[2]') AS status,
        json_extract(value, '$[3]') AS upstream_task_id,
        json_extract(value, '$[4]') AS attempts,
        json_extract(value, '$[5]') AS failures,
        json_extract(value, '$[6]') AS claimed_at,
        json_extract(value, '$[7]') AS claimed_by,
        json_extract(value, '$[8]') AS submitted_at,
        json_extract(value, '$[9]') AS completed_at,
        json_extract(value, '$[10]') AS updated_at,
        json_extract(value, '$[11]') AS not_before,
        json_extract(value, '$[12]') AS ask_at,
        json_extract(value, '$[13]') AS asked_at,
        json_extract(value, '$[14]') AS asks,
        json_extract(value, '$[15]') AS deadline_at,
        json_extract(value, '$[16]') AS callbacks,
        json_extract(value, '$[17]') AS error
    FROM json_each(:rows)
) AS new
WHERE tasks.id = new.id AND tasks.version = new.version
