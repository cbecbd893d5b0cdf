"""Upgrades: failed starts, and old replicas beside new ones."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.access.signing_secrets import record_fingerprint
from app.db import cluster_state
from app.db.engine import Connection, Database
from app.db.migrate import OLDEST_COMPATIBLE, head_revision, migrate
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.gateway_process import run_app
from tests.support.servers.vendor import Vendor

_OLD = "0005"
_NEWER = "9999"


async def make_old(database_url: str) -> None:
    """Migrate to the previous version, with the secret `right`."""
    database = Database(database_url)
    try:
        await migrate(database, _OLD)
        await record_fingerprint(database, ["right"])
    finally:
        await database.aclose()


def revision(database_url: str) -> str | None:
    async def read() -> str | None:
        database = Database(database_url)
        try:
            return await database.read(cluster_state.revision)
        finally:
            await database.aclose()

    return asyncio.run(read())


def set_newer(database_url: str, oldest_compatible: str) -> None:
    """Do what the migration of a newer version does."""

    def work(connection: Connection) -> None:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{_NEWER}'"))
        cluster_state.put(connection, f"oldest_compatible:{_NEWER}", oldest_compatible)

    async def write() -> None:
        database = Database(database_url)
        try:
            await database.write(work)
        finally:
            await database.aclose()

    asyncio.run(write())


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"SECRET_KEY": "wrong"}, "SECRET_KEY"),
        ({"HOST": "0.0.0.0"}, "AUTH"),
        ({"STORAGE_URL": "/dev/null/images"}, "STORAGE_URL"),
        ({"PORT": "taken"}, "PORT"),
    ],
)
def test_a_replica_that_can_not_run_migrates_nothing(
    bare_database_url: str, taken_port: int, tmp_path: Path, wrong: dict[str, str], named: str
) -> None:
    asyncio.run(make_old(bare_database_url))
    if "PORT" in wrong:
        wrong = {"PORT": str(taken_port)}
    settings = {"DATABASE_URL": bare_database_url, "SECRET_KEY": "right", "PORT": "0", **wrong}
    done = run_app(tmp_path, "serve", **settings)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]
    assert revision(bare_database_url) == _OLD
    assert run_app(tmp_path, "migrate", DATABASE_URL=bare_database_url, SECRET_KEY="right").returncode == 0
    assert revision(bare_database_url) == head_revision()


def test_an_old_replica_goes_on_beside_a_compatible_newer_one_and_can_be_restarted(
    database_url: str, vendor: Vendor, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"data_dir": tmp_path, "upstream_url": vendor.url, "database_url": database_url}
    with LiveGateway(**given, secret_key="s") as gateway:
        set_newer(database_url, head_revision())
        ready = gateway.client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (200, "ok")
        gateway.client.submit()
    with LiveGateway(**given, secret_key="s") as again:
        assert again.client.get("/readyz").status_code == 200
        again.client.submit()
    assert run_app(tmp_path, "keys", "list", DATABASE_URL=database_url, SECRET_KEY="s").returncode == 0
    assert revision(database_url) == _NEWER


def test_an_old_replica_is_not_ready_beside_an_incompatible_newer_one(
    database_url: str, vendor: Vendor, tmp_path: Path
) -> None:
    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url, database_url=database_url, secret_key="s") as gateway:
        set_newer(database_url, _NEWER)
        ready = gateway.client.get("/readyz")
        assert ready.status_code == 503
        assert _NEWER in ready.json()["database"]


def test_a_migration_records_the_oldest_code_that_works_on_its_result(database_url: str) -> None:
    async def read() -> str | None:
        database = Database(database_url)
        try:
            name = f"oldest_compatible:{head_revision()}"
            return await database.read(lambda connection: cluster_state.get(connection, name))
        finally:
            await database.aclose()

    assert asyncio.run(read()) == OLDEST_COMPATIBLE <= head_revision()
