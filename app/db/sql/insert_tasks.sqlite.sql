-- Insert new tasks.
INSERT INTO tasks (
    id, project, subject, model, type, input, metadata, webhook_url, retry_of, status, created_at, updated_at,
    not_before, deadline_at, attempts, failures, asks, callbacks, version
)
SELECT
    json_extract(value, '$[0]') AS id,
    json_extract(value, '$[1]') AS project,
    json_extract(value, '$[2]') AS subject,
    json_extract(value, '$[3]') AS model,
    json_extract(value, '$[4]') AS type,
    json_extract(value, '$[5]') AS input,
    json_extract(value, '$[6]') AS metadata,
    json_extract(value, '$[7]') AS webhook_url,
    json_extract(value, '$[8]') AS retry_of,
    json_extract(value, '$[9]') AS status,
    json_extract(value, '$[10]') AS created_at,
    json_extract(value, '$[11]') AS updated_at,
    json_extract(value, '$[12]') AS not_before,
    json_extract(value, '$[13]') AS deadline_at,
    0 AS attempts,
    0 AS failures,
    0 AS asks,
    0 AS callbacks,
    0 AS version
FROM json_each(:rows)
