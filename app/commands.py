"""Runs short commands that need the database, but no server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.clock import Clock, SystemClock
from app.db.engine import Database
from app.logging import configure_logs
from app.prepare import prepare_data_dir, prepare_database
from app.settings import load_settings

T = TypeVar("T")


def migrate() -> None:
    """Migrate the database."""

    async def do_nothing(_database: Database, _clock: Clock) -> None:
        return

    run(do_nothing)


def run(work: Callable[[Database, Clock], Awaitable[T]]) -> T:
    """Migrate the database, then do `work` with it."""
    settings = load_settings()
    prepare_data_dir(settings)
    configure_logs(settings.log_format, settings.log_level, [])

    async def prepared() -> T:
        database = await prepare_database(settings)
        try:
            return await work(database, SystemClock())
        finally:
            await database.aclose()

    return asyncio.run(prepared())
