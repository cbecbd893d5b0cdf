"""SQLite for tests, with a file for each."""

import asyncio
import tempfile
from functools import cache
from pathlib import Path

from app.db.engine import Database
from app.db.migrate import migrate


def create_sqlite(path: Path) -> str:
    """Create a file with empty tables and return its URL."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(_sqlite_template())
    return f"sqlite:///{path}"


@cache
def _sqlite_template() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "template.db"
        asyncio.run(_migrate(f"sqlite:///{path}"))
        return path.read_bytes()


async def _migrate(url: str) -> None:
    database = Database(url)
    try:
        await migrate(database)
    finally:
        await database.aclose()
