"""Fair queueing: projects take turns, oldest task first."""

from itertools import zip_longest

from app.db import task_store
from app.db.engine import Connection
from app.domain.task import Task


def due_in_turn(connection: Connection, *, after: str, now: int, limit: int) -> list[Task]:
    """Lock up to `limit` due tasks, taking projects in turn.

    Begins with the project that follows `after`.
    """
    projects = task_store.queued_projects(connection)
    in_turn = [p for p in projects if p > after] + [p for p in projects if p <= after]
    share = -(-limit // max(len(projects), 1))
    queues: dict[str, list[Task]] = {}
    for project in in_turn:
        if sum(map(len, queues.values())) < limit:
            queues[project] = task_store.claimable(connection, project, now=now, limit=share)
    # If some projects don't use up their share, others get more.
    for project, queue in queues.items():
        if sum(map(len, queues.values())) < limit and len(queue) == share:
            queues[project] = task_store.claimable(connection, project, now=now, limit=limit)
    tasks = [task for rank in zip_longest(*queues.values()) for task in rank if task is not None]
    return tasks[:limit]
