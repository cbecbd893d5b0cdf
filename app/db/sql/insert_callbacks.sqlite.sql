-- Keep callbacks whose bodies are text.
INSERT INTO callbacks (task_id, received_at, status, answer, body)
SELECT
    json_extract(value, '$[0]') AS task_id,
    json_extract(value, '$[1]') AS received_at,
    json_extract(value, '$[2]') AS status,
    json_extract(value, '$[3]') AS answer,
    CAST(json_extract(value, '$[4]') AS BLOB) AS body
FROM json_each(:rows)
