"""Alembic's environment; uses a given connection, or else the settings."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from app.db.engine import Database
from app.db.schema import metadata
from app.settings import database_url, load_settings


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def _run_by_hand() -> None:
    database = Database(database_url(load_settings()))
    await database.migrate(_run)
    await database.aclose()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    asyncio.run(_run_by_hand())
