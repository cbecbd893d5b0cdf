-- Keep callbacks whose bodies are text.
INSERT INTO callbacks (
    task_id, received_at, status, answer, body
)
SELECT
    json_extract(value, '$.task_id'),
    json_extract(value, '$.received_at'),
    json_extract(value, '$.status'),
    json_extract(value, '$.answer'),
    CAST(json_extract(value, '$.body') AS BLOB)
FROM json_each(:rows)
