-- Read tasks by id, as a JSON array, and lock them in id order, so that two callers never deadlock.
SELECT CAST(json_agg(found) AS text)
FROM (
    SELECT
        id, project, subject, model, type, input, metadata, webhook_url, retry_of, status, upstream_task_id, attempts,
        failures, created_at, claimed_at, claimed_by, submitted_at, completed_at, updated_at, not_before, ask_at, asked_at,
        asks, deadline_at, callbacks, version,
        CASE WHEN error_code IS NOT NULL THEN
            json_build_object('code', error_code, 'message', error_message, 'upstream_code', error_upstream_code)
        END AS error
    FROM tasks
    WHERE id = ANY(ARRAY(SELECT json_array_elements_text(CAST(:ids AS json))))
    ORDER BY id
    FOR UPDATE
) AS found
