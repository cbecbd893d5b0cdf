"""SQL files are described, used, and valid for their schema."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from app.db import sql
from app.db.schema import metadata
from tests.support.databases.postgres import PostgresServer
from tests.support.databases.sqlite import create_sqlite

FOLDER = Path(sql.__file__).parent
FILES = sorted(file.name for file in FOLDER.glob("*.sql"))
SOURCE = "\n".join(file.read_text() for file in FOLDER.parent.rglob("*.py"))
PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


@pytest.mark.parametrize("name", FILES)
def test_a_statement_begins_with_its_description(name: str) -> None:
    first, second, *_ = (FOLDER / name).read_text().splitlines()
    assert re.fullmatch(r"-- [A-Z].{10,}[.]", first)
    assert not second.startswith("--")


@pytest.mark.parametrize("name", FILES)
def test_a_statement_is_used(name: str) -> None:
    assert re.search(rf'sql[.](load|RowWriter)[(]"{name.partition(".")[0]}"[)]', SOURCE)


@pytest.mark.parametrize("name", [name for name in FILES if ".postgresql." not in name])
def test_a_statement_fits_the_schema_of_sqlite(name: str, tmp_path: Path) -> None:
    text = (FOLDER / name).read_text()
    path = create_sqlite(tmp_path / "test.db").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"EXPLAIN {text}", dict.fromkeys(PARAMETER.findall(text), "[]"))


async def test_statements_fit_the_schema_of_postgresql(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(await asyncio.to_thread(postgres.create_database))
    try:
        for name in (name for name in FILES if ".sqlite." not in name):
            numbers: dict[str, str] = {}
            text = PARAMETER.sub(
                lambda found: numbers.setdefault(found[1], f"${len(numbers) + 1}::text"),  # noqa: B023
                (FOLDER / name).read_text(),
            )
            await connection.prepare(text)
    finally:
        await connection.close()


@pytest.mark.parametrize(("statement", "table"), [("update_tasks", "tasks"), ("write_batch", "tasks")])
def test_an_update_writes_every_column_that_may_change(statement: str, table: str) -> None:
    (file,) = FOLDER.glob(f"{statement}.*.sql")
    fixed = {"id", "project", "subject", "model", "type", "input", "metadata", "webhook_url", "retry_of", "created_at"}
    after_set = file.read_text().partition("SET")[2].partition("\nFROM")[0].partition("    FROM")[0]
    assert set(re.findall(r"\b([a-z_]+) = ", after_set)) == {c.name for c in metadata.tables[table].c} - fixed
