"""Which way the statements on uploads go."""

from pathlib import Path

from app.db import uploads as upload_rows
from app.db.engine import Database
from app.db.migrate import migrate
from tests.support.plans import Explained


async def test_sweeping_reads_neither_what_was_emptied_before_nor_what_is_still_shown(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await migrate(database)
    async with database.writing() as connection:
        explained = Explained(connection)
        await upload_rows.give_up_expired(explained, now=1, limit=1)
        await upload_rows.forget(explained, before=1, limit=1)
    await database.aclose()
    assert explained.plans == [
        "SEARCH uploads USING INDEX ix_uploads_expires_at (expires_at<?)",
        "SEARCH uploads USING INDEX ix_uploads_remembered (expires_at<?)",
    ]
