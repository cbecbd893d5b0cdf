-- Insert the images of tasks that succeeded.
INSERT INTO images (id, task_id, position, source_url, state, reason, next_try_at, tries)
SELECT
    json_extract(value, '$[0]') AS id,
    json_extract(value, '$[1]') AS task_id,
    json_extract(value, '$[2]') AS position,
    json_extract(value, '$[3]') AS source_url,
    json_extract(value, '$[4]') AS state,
    json_extract(value, '$[5]') AS reason,
    json_extract(value, '$[6]') AS next_try_at,
    0 AS tries
FROM json_each(:rows)
