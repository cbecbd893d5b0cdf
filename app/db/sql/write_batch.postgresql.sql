-- Write a batch of task changes; return how many changed tasks still had the version they were read with.
WITH created AS (
    INSERT INTO tasks (
        id, project, subject, model, type, input, metadata, webhook_url, retry_of, status, created_at, updated_at,
        not_before, deadline_at, attempts, failures, asks, callbacks, version
    )
    SELECT
        id, project, subject, model, type, input, metadata, webhook_url, retry_of, status, created_at, updated_at,
        not_before, deadline_at, 0, 0, 0, 0, 0
    FROM json_populate_recordset(CAST(NULL AS tasks), CAST(:created AS json))
),
changed AS (
    UPDATE tasks
    SET
        status = new.status, upstream_task_id = new.upstream_task_id, attempts = new.attempts,
        failures = new.failures, claimed_at = new.claimed_at, claimed_by = new.claimed_by,
        submitted_at = new.submitted_at, completed_at = new.completed_at, updated_at = new.updated_at,
        not_before = new.not_before, ask_at = new.ask_at, asked_at = new.asked_at, asks = new.asks,
        deadline_at = new.deadline_at, callbacks = new.callbacks, error_code = new.error ->> 'code',
        error_message = new.error ->> 'message', error_upstream_code = new.error ->> 'upstream_code',
        version = tasks.version + 1
    FROM json_to_recordset(CAST(:changed AS json)) AS new (
        id text, version integer, status text, upstream_task_id text, attempts integer, failures integer,
        claimed_at bigint, claimed_by text, submitted_at bigint, completed_at bigint, updated_at bigint,
        not_before bigint, ask_at bigint, asked_at bigint, asks integer, deadline_at bigint, callbacks integer,
        error json
    )
    WHERE tasks.id = new.id AND tasks.version = new.version
    RETURNING 1
),
new_images AS (
    INSERT INTO images (id, task_id, position, source_url, state, reason, next_try_at, tries)
    SELECT id, task_id, position, source_url, state, reason, next_try_at, 0
    FROM json_populate_recordset(CAST(NULL AS images), CAST(:images AS json))
),
new_callbacks AS (
    INSERT INTO callbacks (task_id, received_at, status, answer, body)
    SELECT task_id, received_at, status, answer, decode(body, 'base64')
    FROM json_to_recordset(CAST(:callbacks AS json)) AS new (
        task_id text, received_at bigint, status integer, answer text, body text
    )
),
new_deliveries AS (
    INSERT INTO webhook_deliveries (
        id, task_id, project, event, url, host, snapshot, state, tries, attempts, next_attempt_at, due_at,
        claimed_by, created_at
    )
    SELECT
        id, task_id, project, event, url, host, snapshot, state, tries, attempts, next_attempt_at, due_at,
        claimed_by, created_at
    FROM json_populate_recordset(CAST(NULL AS webhook_deliveries), CAST(:deliveries AS json))
),
-- Ids are assigned on insert, but rows become visible on commit. Without the lock, a reader that remembers the highest
-- id would miss a lower one committed later. Nothing else in this database uses the lock's number.
locked AS (
    SELECT pg_advisory_xact_lock(1851879023), pg_notify(:channel, '')
    WHERE json_array_length(CAST(:events AS json)) > 0
),
new_events AS (
    INSERT INTO events (task_id, project, subject, type, snapshot, created_at)
    SELECT task_id, project, subject, type, snapshot, created_at
    FROM locked CROSS JOIN json_populate_recordset(CAST(NULL AS events), CAST(:events AS json))
)
SELECT count(*) FROM changed
