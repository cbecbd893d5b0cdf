"""Access to the database: `Database.read` and `Database.write`."""

from sqlalchemy import Connection

from app.db.engine.database import Database
from app.db.engine.errors import is_unreachable, may_recover
from app.db.engine.transaction import Work

__all__ = ["Connection", "Database", "Work", "is_unreachable", "may_recover"]
