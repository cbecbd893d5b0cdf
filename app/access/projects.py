"""Projects with their daily budgets and use."""

from dataclasses import dataclass

from app.clock import Clock
from app.db import key_store, quota_store
from app.db.engine import Connection, Database
from app.domain import quota
from app.domain.key import DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class ProjectUse:
    """A project's daily budget and number of tasks today (UTC)."""

    name: str
    daily_tasks: int | None
    created_today: int


async def set_daily_budget(database: Database, clock: Clock, project: str, daily_tasks: int | None) -> None:
    """Limit a project's tasks per UTC day; None means unlimited."""

    def work(connection: Connection) -> None:
        if daily_tasks is not None:
            quota_store.set_daily_budget(connection, project, daily_tasks)
            return
        quota_store.drop_daily_budget(connection, project)
        # Tasks are counted only if there is a budget. Setting one again counts today's tasks from the table.
        quota_store.remove(connection, quota.day_name(project, clock.now()))

    await database.write(work)


async def list_projects(database: Database, clock: Clock) -> list[ProjectUse]:
    """List the default project and projects with keys or budgets."""
    now = clock.now()

    def work(connection: Connection) -> list[ProjectUse]:
        budgets = quota_store.daily_budgets(connection)
        names = sorted({DEFAULT_PROJECT, *budgets, *(key.project for key in key_store.list_all(connection))})
        counted = quota_store.used(connection, [quota.day_name(name, now) for name in names])
        uses = []
        for name in names:
            created = counted.get(quota.day_name(name, now))
            if created is None:
                created = quota_store.count_tasks_since(connection, name, quota.start_of_day(now))
            uses.append(ProjectUse(name, budgets.get(name), created))
        return uses

    return await database.read(work)
