-- List the projects with queued tasks, with one index lookup per project.
WITH RECURSIVE hop AS (
    -- Ordered by both columns of the queue's index: for a plain minimum, SQLite would scan an index of all tasks.
    SELECT (SELECT project FROM tasks WHERE status = 'queued' ORDER BY project, id LIMIT 1) AS project
    UNION ALL
    SELECT (SELECT project FROM tasks WHERE status = 'queued' AND project > hop.project ORDER BY project, id LIMIT 1)
    FROM hop
    WHERE hop.project IS NOT NULL
)
SELECT project FROM hop WHERE project IS NOT NULL
