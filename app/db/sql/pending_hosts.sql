-- List hosts with pending deliveries and their earliest due times, with two index lookups per host.
WITH RECURSIVE hop AS (
    SELECT min(host) AS host, 1 AS nth FROM webhook_deliveries WHERE state = 'pending' AND host > :after
    UNION ALL
    SELECT (SELECT min(host) FROM webhook_deliveries WHERE state = 'pending' AND host > hop.host), nth + 1
    FROM hop
    WHERE host IS NOT NULL AND nth < CAST(:limit AS integer)
)
SELECT
    host,
    (SELECT min(due_at) FROM webhook_deliveries AS due WHERE due.state = 'pending' AND due.host = hop.host) AS due_at
FROM hop
WHERE host IS NOT NULL
