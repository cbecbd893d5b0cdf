"""Which way SQLite goes for a statement."""

from typing import Any

from sqlalchemy import CursorResult, Dialect, Executable, text
from sqlalchemy.sql import Select

from app.db.engine import Connection, Outcome


class Explained:
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

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Outcome:
        return await self._connection.exec_driver_sql(statement, parameters)
