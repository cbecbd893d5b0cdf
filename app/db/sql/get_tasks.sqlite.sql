-- Read tasks by id, as a JSON array.
SELECT json_group_array(json_object(
    'id', id,
    'project', project,
    'subject', subject,
    'model', model,
    'type', type,
    'input', json(input),
    'metadata', json(metadata),
    'webhook_url', webhook_url,
    'retry_of', retry_of,
    'status', status,
    'upstream_task_id', upstream_task_id,
    'attempts', attempts,
    'failures', failures,
    'created_at', created_at,
    'claimed_at', claimed_at,
    'claimed_by', claimed_by,
    'submitted_at', submitted_at,
    'completed_at', completed_at,
    'updated_at', updated_at,
    'not_before', not_before,
    'ask_at', ask_at,
    'asked_at', asked_at,
    'asks', asks,
    'deadline_at', deadline_at,
    'callbacks', callbacks,
    'version', version,
    'error', json(CASE WHEN error_code IS NOT NULL THEN
        json_object('code', error_code, 'message', error_message, 'upstream_code', error_upstream_code)
    END)
))
FROM tasks
WHERE id IN (SELECT value FROM json_each(:ids))
