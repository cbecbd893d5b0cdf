"""What the short commands do: `migrate`, `keys` and `projects`. They need the database, but no server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.access import authenticator as access
from app.access import projects
from app.access.projects import ProjectUse
from app.clock import SystemClock
from app.db.engine import Database
from app.domain.key import ApiKey
from app.logging import configure_logs
from app.prepare import prepare_data_dir, prepare_database
from app.settings import load_settings

T = TypeVar("T")


def migrate() -> None:
    """Migrate the database."""

    async def nothing_more(_database: Database) -> None:
        return

    _with_database(nothing_more)


def create_key(name: str, project: str) -> tuple[ApiKey, str]:
    """Create an API key; returns it and its secret."""
    return _with_database(lambda database: access.create_key(database, SystemClock(), name, project))


def list_keys() -> Sequence[ApiKey]:
    """List all API keys."""
    return _with_database(access.list_keys)


def revoke_key(key_id: str) -> bool:
    """Revoke an API key; returns whether it exists."""
    return _with_database(lambda database: access.revoke_key(database, SystemClock(), key_id))


def set_budget(name: str, budget: int | None) -> None:
    """Set the daily budget of a project; None for no limit."""
    _with_database(lambda database: projects.set_daily_budget(database, SystemClock(), name, budget))


def list_projects() -> Sequence[ProjectUse]:
    """List the projects with their budgets."""
    return _with_database(lambda database: projects.list_projects(database, SystemClock()))


def _with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    settings = load_settings()
    prepare_data_dir(settings)
    configure_logs(settings.log_format, settings.log_level, [])

    async def prepared() -> T:
        database = await prepare_database(settings)
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(prepared())
