"""What operators do with projects: see what they make, and bound it."""

from dataclasses import dataclass

from app.clock import Clock
from app.db import key_store, quota_store
from app.db.engine import Connection, Database
from app.domain import quota
from app.domain.key import DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class ProjectUse:
    """A project with its budget (None for none) and how many tasks it has made today (UTC)."""

    name: str
    daily_tasks: int | None
    made_today: int


async def set_daily_budget(database: Database, clock: Clock, project: str, daily_tasks: int | None) -> None:
    """Let a project make so many tasks a day (UTC), or as many as it likes."""

    def work(connection: Connection) -> None:
        if daily_tasks is not None:
            quota_store.set_daily_budget(connection, project, daily_tasks)
            return
        quota_store.drop_daily_budget(connection, project)
        # Nothing is counted from now on; if a budget is set again today, the tasks themselves are counted.
        quota_store.remove(connection, quota.day_name(project, clock.now()))

    await database.write(work)


async def list_projects(database: Database, clock: Clock) -> list[ProjectUse]:
    """List the projects that have a key or a budget, and the default one."""
    now = clock.now()

    def work(connection: Connection) -> list[ProjectUse]:
        budgets = quota_store.daily_budgets(connection)
        names = sorted({DEFAULT_PROJECT, *budgets, *(key.project for key in key_store.list_all(connection))})
        counted = quota_store.used(connection, [quota.day_name(name, now) for name in names])
        uses = []
        for name in names:
            made = counted.get(quota.day_name(name, now))
            if made is None:
                made = quota_store.count_tasks_since(connection, name, quota.start_of_day(now))
            uses.append(ProjectUse(name, budgets.get(name), made))
        return uses

    return await database.read(work)
