"""Projects: their daily budgets and use."""

from dataclasses import dataclass

from app.clock import Clock
from app.db import key_store, quota_store
from app.db.engine import Connection, Database
from app.domain import quota
from app.domain.key import DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class ProjectUse:
    """A project with its daily budget (None: no limit) and today's tasks (UTC)."""

    name: str
    daily_tasks: int | None
    created_today: int


async def set_daily_budget(database: Database, clock: Clock, project: str, daily_tasks: int | None) -> None:
    """Limit the tasks a project can create per day (UTC); None for no limit."""

    def work(connection: Connection) -> None:
        if daily_tasks is not None:
            quota_store.set_daily_budget(connection, project, daily_tasks)
            return
        quota_store.drop_daily_budget(connection, project)
        # Without a budget nothing is counted. If one is set again today, today's tasks are counted then.
        quota_store.remove(connection, quota.day_name(project, clock.now()))

    await database.write(work)


async def list_projects(database: Database, clock: Clock) -> list[ProjectUse]:
    """List projects with a key or a budget, and the default one."""
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
