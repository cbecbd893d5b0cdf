"""Query plans of the statements on events."""

from pathlib import Path

from app.db import event_store
from app.db.engine import Connection, Database
from app.db.migrate import migrate
from tests.support.databases.query_plans import plans_of


async def test_a_subjects_events_are_found_by_index(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await migrate(database)

    def work(connection: Connection) -> list[str]:
        plans = plans_of(connection)
        event_store.of_project_after(connection, "default", 1, subject="user-7", limit=10)
        return plans

    (plan,) = await database.read(work)
    await database.aclose()
    assert "INDEX ix_events_project_subject_id (project=? AND subject=? AND id>?)" in plan
