-- Read the images of tasks as a JSON array, without the columns for copying.
SELECT CAST(json_agg(found) AS text)
FROM (
    SELECT id, task_id, position, source_url, state, reason, content_type, bytes, width, height
    FROM images
    WHERE task_id = ANY(ARRAY(SELECT json_array_elements_text(CAST(:task_ids AS json))))
) AS found
