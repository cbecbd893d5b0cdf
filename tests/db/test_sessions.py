"""PostgreSQL sessions don't depend on database defaults or poolers."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.db.engine import Connection, Database
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.gateway_process import run_app
from tests.support.servers.vendor import Vendor
from tests.support.waiting import until

_HOSTILE = {
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "statement_timeout": "300",
    "lock_timeout": "1",
    "synchronous_commit": "off",
    "TimeZone": "Asia/Kolkata",
}


async def test_the_defaults_of_the_database_dont_matter(postgres: PostgresServer) -> None:
    url = await asyncio.to_thread(postgres.create_database)
    other = await asyncpg.connect(url)
    name = make_url(url).database
    for setting, value in _HOSTILE.items():
        await other.execute(f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
    await other.close()
    database = Database(url)

    def work(connection: Connection) -> dict[str, str]:
        connection.exec_driver_sql("CREATE TABLE notes (number int)")
        connection.exec_driver_sql("SELECT pg_sleep(0.4)")
        names = [*_HOSTILE, "transaction_isolation", "idle_in_transaction_session_timeout"]
        return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in names}

    try:
        assert await database.write(work) == {
            "default_transaction_isolation": "read committed",
            "default_transaction_read_only": "off",
            "statement_timeout": "6500ms",
            "lock_timeout": "0",
            "synchronous_commit": "on",
            "TimeZone": "UTC",
            "transaction_isolation": "read committed",
            "idle_in_transaction_session_timeout": "5s",
        }
    finally:
        await database.aclose()


@pytest.mark.slow
async def test_a_transaction_that_begins_and_then_freezes_is_ended_by_the_server(postgres: PostgresServer) -> None:
    url = await asyncio.to_thread(postgres.create_database)
    database = Database(url, transaction_seconds=20.0)
    other = await asyncpg.connect(url)

    def freeze(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        frozen.set()
        # The event loop stands still, as a frozen process does.
        subprocess.run(["sleep", "6"], check=True)

    frozen = asyncio.Event()
    try:
        with pytest.raises(Exception, match="can't be reached"):
            await database.write(freeze)
        assert await other.fetchval("SELECT pg_try_advisory_lock(1)")
        assert await database.write(lambda connection: connection.execute(text("SELECT 1")).scalar_one()) == 1
    finally:
        await other.close()
        await database.aclose()


async def test_a_server_without_a_free_connection_is_asked_again(postgres: PostgresServer) -> None:
    url = await asyncio.to_thread(postgres.create_database)
    other = await asyncpg.connect(url)
    name = make_url(url).database
    # One is this test's. The limit applies to all but superusers.
    await other.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 2')
    await other.execute("DROP ROLE IF EXISTS ordinary")
    await other.execute("CREATE ROLE ordinary LOGIN")
    ordinary = make_url(url).set(username="ordinary").render_as_string(hide_password=False)
    first, second = Database(ordinary), Database(ordinary)

    def one(connection: Connection) -> int:
        return int(connection.execute(text("SELECT 1")).scalar_one())

    try:
        assert await first.read(one) == 1
        # The reader of the same process makes room for its writer.
        assert await first.write(one) == 1
        waiting = asyncio.create_task(second.write(one))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await first.aclose()
        assert await waiting == 1
    finally:
        await second.aclose()
        await other.close()


@contextmanager
def pgbouncer(url: str, mode: str) -> Iterator[str]:
    """Run PgBouncer in front of a database; yields its URL."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    to = make_url(url)
    sockets = Path(str(to.query["host"]))
    with tempfile.TemporaryDirectory() as directory:
        # It refuses to run as root. The owner of the server's socket may use it.
        Path(directory).chmod(0o755)
        config = Path(directory) / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={sockets} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\n"
        )
        process = subprocess.Popen([program, "-q", str(config)], user=sockets.stat().st_uid)
        try:
            until(lambda: _is_open(port), what="the start of pgbouncer")
            yield f"postgresql://postgres@127.0.0.1:{port}/{to.database}"
        finally:
            process.terminate()
            process.wait(10)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_pooler_in_transaction_mode_is_refused_in_one_line(postgres: PostgresServer, tmp_path: Path) -> None:
    with pgbouncer(postgres.create_database(migrated=False), "transaction") as url:
        done = run_app(tmp_path, "serve", "--port", "0", DATABASE_URL=url, SECRET_KEY="s")
        assert done.returncode == 2
        assert "DATABASE_URL names a connection pooler in transaction mode" in done.stderr.splitlines()[-1]


def test_a_service_works_behind_a_pooler_in_session_mode(
    postgres: PostgresServer, vendor: Vendor, tmp_path: Path
) -> None:
    with (
        pgbouncer(postgres.create_database(), "session") as url,
        LiveGateway(data_dir=tmp_path, upstream_url=vendor.url, database_url=url, secret_key="s") as gateway,
    ):
        task = gateway.client.submit()
        assert gateway.client.wait_for(task["id"], "processing")
        assert gateway.client.get("/readyz").json()["status"] == "ready"
