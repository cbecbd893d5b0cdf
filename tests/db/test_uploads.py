"""Query plans of the statements on uploads."""

from pathlib import Path

from app.db import upload_store
from app.db.engine import Connection, Database
from app.db.migrate import migrate
from tests.support.databases.query_plans import plans_of


async def test_sweeping_reads_only_due_uploads(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await migrate(database)

    def work(connection: Connection) -> list[str]:
        plans = plans_of(connection)
        upload_store.release_expired(connection, now=1, limit=1)
        upload_store.remove_expired(connection, before=1, limit=1)
        return plans

    plans = await database.write(work)
    await database.aclose()
    assert plans == [
        "SEARCH uploads USING INDEX ix_uploads_expires_at (expires_at<?)",
        "SEARCH uploads USING INDEX sqlite_autoindex_uploads_1 (id=?)",
        "LIST SUBQUERY 1",
        "SEARCH uploads USING INDEX ix_uploads_remembered (expires_at<?)",
    ]
