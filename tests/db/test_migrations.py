"""Migrations: schema, downgrades, and concurrent runs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from app.access import authenticator as access
from app.clock import SystemClock
from app.db import key_store
from app.db.engine import Database
from app.db.migrate import MIGRATIONS, head_revision, migrate, rewind
from app.db.schema import metadata
from app.domain.image import RETRY_PAUSES_MS
from app.domain.key import ApiKey
from app.prepare import prepare_database
from app.settings import Settings
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway_process import run_app

T = TypeVar("T")
_OLD_TASK = """
    INSERT INTO tasks (id, project, model, type, input, metadata, status, attempts, failures, created_at, updated_at,
                       not_before, asks, callbacks, version)
    VALUES ('task_1', 'default', 'nano-banana', 'text_to_image', '{}', '{}', 'succeeded', 1, 0, 1, 1, 1, 0, 0, 0)
"""
_OLD_IMAGE = """
    INSERT INTO images (id, task_id, position, source_url, state)
    VALUES (:id, 'task_1', 0, 'https://x.example/1.png', :state)
"""


def on(database_url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        database = Database(database_url)
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(run())


async def start(settings: Settings) -> None:
    """Prepare the database as every start does, with retries."""
    database = await prepare_database(settings)
    await database.aclose()


def tables(database_url: str) -> set[str]:
    async def read(database: Database) -> set[str]:
        return await database.read(lambda connection: set(inspect(connection).get_table_names()))

    return on(database_url, read)


def differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_migrations_create_the_schema(bare_database_url: str) -> None:
    async def compare(database: Database) -> list[Any]:
        await migrate(database)
        return await database.write(differences)

    assert on(bare_database_url, compare) == []


def test_the_newest_revision_is_that_of_the_last_file() -> None:
    assert head_revision() == ScriptDirectory(str(MIGRATIONS)).get_current_head()


def test_up_down_and_up_again(bare_database_url: str) -> None:
    on(bare_database_url, migrate)
    full = tables(bare_database_url)
    assert set(metadata.tables) <= full
    on(bare_database_url, rewind)
    assert tables(bare_database_url) <= {"alembic_version", "sqlite_sequence"}
    on(bare_database_url, migrate)
    assert tables(bare_database_url) == full


def test_older_images_get_one_try_each_spread_over_time(bare_database_url: str) -> None:
    async def work(database: Database) -> list[Any]:
        await migrate(database, "0004")
        await database.write(add_old_rows)
        await migrate(database)
        return await database.write(add_and_read)

    def add_old_rows(connection: Connection) -> None:
        connection.execute(text(_OLD_TASK))
        for number in range(40):
            state = "stored" if number == 0 else "pending"
            connection.execute(text(_OLD_IMAGE), {"id": f"img_{number}", "state": state})

    def add_and_read(connection: Connection) -> list[tuple[Any, ...]]:
        # An image that a replica of the previous version adds meanwhile is due at once.
        connection.execute(text(_OLD_IMAGE), {"id": "img_new", "state": "pending"})
        found = connection.execute(text("SELECT state, tries, next_try_at, id FROM images"))
        return [tuple(row) for row in found]

    before = SystemClock().now()
    rows = on(bare_database_url, work)
    planned = [row[2] for row in rows if row[:2] == ("pending", len(RETRY_PAUSES_MS))]
    assert len(planned) == 39
    assert min(planned) >= before
    assert 200 < max(planned) - min(planned) <= 2000
    assert [row[:3] for row in rows if row[3] == "img_new"] == [("pending", 0, 0)]


def test_a_migration_may_take_longer_than_other_statements(postgres: PostgresServer) -> None:
    async def work() -> None:
        database, other = Database(url, transaction_seconds=0.2), await asyncpg.connect(url)
        try:
            await migrate(database, "0004")
            async with other.transaction():
                await other.execute("LOCK TABLE images")
                waiting = asyncio.create_task(migrate(database))
                await asyncio.wait([waiting], timeout=0.5)
                assert not waiting.done()
            await waiting
        finally:
            await other.close()
            await database.aclose()

    url = postgres.create_database(migrated=False)
    asyncio.run(work())
    assert set(metadata.tables) <= tables(url)


def test_concurrent_threads_migrate_one_database(bare_database_url: str) -> None:
    failures: list[Exception] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        try:
            settings = Settings(_env_file=None, database_url=bare_database_url, secret_key="s")
            asyncio.run(start(settings))
        except Exception as error:  # noqa: BLE001 -- the test must show any failure
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(metadata.tables) <= tables(bare_database_url)


def test_concurrent_processes_migrate_one_database(bare_database_url: str, tmp_path: Path) -> None:
    done: list[Any] = []
    settings = {"DATABASE_URL": bare_database_url, "SECRET_KEY": "s"}
    threads = [threading.Thread(target=lambda: done.append(run_app(tmp_path, "migrate", **settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 4
    assert set(metadata.tables) <= tables(bare_database_url)


def test_concurrent_starts_create_one_bootstrap_key(bare_database_url: str) -> None:
    secret = "bootstrap-key-0123456789-abcdef"

    async def work(database: Database) -> list[ApiKey]:
        await migrate(database)
        both = [Database(bare_database_url), Database(bare_database_url), Database(bare_database_url)]
        for one in both:
            await one.read(key_store.any_exist)  # connected now, so that all three begin together
        await asyncio.gather(*(access.ensure_bootstrap_key(one, SystemClock(), secret) for one in both))
        for one in both:
            await one.aclose()
        return await access.list_keys(database)

    assert len(on(bare_database_url, work)) == 1


def test_a_database_of_a_newer_version_stops_the_start(bare_database_url: str, tmp_path: Path) -> None:
    async def advance(database: Database) -> None:
        await migrate(database)
        await database.write(
            lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        )

    on(bare_database_url, advance)
    assert head_revision() != "9999"
    for command in (["serve", "--port", "0"], ["keys", "list"]):
        done = run_app(tmp_path, *command, DATABASE_URL=bare_database_url, SECRET_KEY="s")
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert "DATABASE_URL" in line
        assert "9999" in line
