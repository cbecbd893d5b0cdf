"""Which way the statements on uploads go."""

from pathlib import Path
from typing import Any

from sqlalchemy import CursorResult, Dialect, Executable, text
from sqlalchemy.sql import Select

from app.db import uploads as upload_rows
from app.db.engine import Connection, Database
from app.db.migrate import migrate


class _Explained:
    """A connection that notes by which indexes its statements search."""

    def __init__(self, connection: Connection) -> None:
        self.plans: list[str] = []
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        assert isinstance(statement, Select)
        whole = statement.params(**parameters).compile(dialect=self.dialect, compile_kwargs={"literal_binds": True})
        plan = await self._connection.execute(text(f"EXPLAIN QUERY PLAN {whole}"))
        self.plans += [row.detail for row in plan]
        return await self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> CursorResult[Any]:
        return await self._connection.exec_driver_sql(statement, parameters)


async def test_sweeping_reads_neither_what_was_emptied_before_nor_what_is_still_shown(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    await migrate(database)
    async with database.writing() as connection:
        explained = _Explained(connection)
        await upload_rows.give_up_expired(explained, now=1, limit=1)
        await upload_rows.forget(explained, before=1, limit=1)
    await database.aclose()
    assert explained.plans == [
        "SEARCH uploads USING INDEX ix_uploads_expires_at (expires_at<?)",
        "SEARCH uploads USING INDEX ix_uploads_remembered (expires_at<?)",
    ]
