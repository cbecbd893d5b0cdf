"""The way to the database: two doors, `Database.read` and `Database.write`."""

from sqlalchemy import Connection

from app.db.engine.database import Database, Work
from app.db.engine.errors import is_unreachable

__all__ = ["Connection", "Database", "Work", "is_unreachable"]
