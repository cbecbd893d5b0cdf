-- Read every n-th id of the queue (n is the step) with its position, oldest first.
SELECT id, position
FROM (SELECT id, row_number() OVER (ORDER BY id) AS position FROM tasks WHERE status = 'queued') AS queue
WHERE (position - 1) % CAST(:step AS integer) = 0
ORDER BY position
