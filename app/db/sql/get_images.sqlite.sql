-- Read the images of tasks as a JSON array, without the columns for copying.
SELECT json_group_array(json_object(
    'id', id,
    'task_id', task_id,
    'position', position,
    'source_url', source_url,
    'state', state,
    'reason', reason,
    'content_type', content_type,
    'bytes', bytes,
    'width', width,
    'height', height
))
FROM images
WHERE task_id IN (SELECT value FROM json_each(:task_ids))
