"""What operators do with projects: see what they make, and bound it."""

from dataclasses import dataclass

from app.clock import Clock
from app.db import keys as key_rows
from app.db import quotas as quota_rows
from app.db.engine import Database
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
    async with database.writing() as connection:
        if daily_tasks is not None:
            await quota_rows.set_daily_budget(connection, project, daily_tasks)
            return
        await quota_rows.drop_daily_budget(connection, project)
        # Nobody counts from now on; should there be a budget again today, the tasks themselves are counted.
        await quota_rows.forget(connection, quota.day_name(project, clock.now()))


async def list_projects(database: Database, clock: Clock) -> list[ProjectUse]:
    """List the projects that have a key or a budget, and the default one."""
    now = clock.now()
    async with database.reading() as connection:
        budgets = await quota_rows.daily_budgets(connection)
        names = sorted({DEFAULT_PROJECT, *budgets, *(key.project for key in await key_rows.every(connection))})
        counted = await quota_rows.used(connection, [quota.day_name(name, now) for name in names])
        uses = []
        for name in names:
            made = counted.get(quota.day_name(name, now))
            if made is None:
                made = await quota_rows.made_since(connection, name, quota.day_began(now))
            uses.append(ProjectUse(name, budgets.get(name), made))
        return uses
