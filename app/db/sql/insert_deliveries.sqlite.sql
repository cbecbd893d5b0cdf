-- Insert planned webhook deliveries.
INSERT INTO webhook_deliveries (
    id, task_id, project, event, url, host, snapshot, state, tries, attempts, next_attempt_at, due_at, claimed_by,
    created_at
)
SELECT
    json_extract(value, '$[0]') AS id,
    json_extract(value, '$[1]') AS task_id,
    json_extract(value, '$[2]') AS project,
    json_extract(value, '$[3]') AS event,
    json_extract(value, '$[4]') AS url,
    json_extract(value, '$[5]') AS host,
    json_extract(value, '$[6]') AS snapshot,
    json_extract(value, '$[7]') AS state,
    json_extract(value, '$[8]') AS tries,
    json_extract(value, '$[9]') AS attempts,
    json_extract(value, '$[10]') AS next_attempt_at,
    json_extract(value, '$[11]') AS due_at,
    json_extract(value, '$[12]') AS claimed_by,
    json_extract(value, '$[13]') AS created_at
FROM json_each(:rows)
