"""Readiness, methods, and one process per SQLite file."""

import asyncio
import time
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from app.db.engine import Connection, Database
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.gateway_process import GatewayProcess, run_app
from tests.support.servers.vendor import Vendor
from tests.support.waiting import until


async def execute(url: str, *statements: str) -> None:
    database = Database(url)
    try:
        for statement in statements:
            await database.write(partial(Connection.exec_driver_sql, statement=statement))
    finally:
        await database.aclose()


def test_a_database_of_another_revision_is_not_ready(gateway: LiveGateway, database_url: str) -> None:
    assert gateway.client.get("/readyz").json()["database"] == "ok"
    asyncio.run(execute(database_url, "UPDATE alembic_version SET version_num = 'other'"))
    answer = gateway.client.get("/readyz")
    assert (answer.status_code, "other" in answer.json()["database"]) == (503, True)
    assert answer.headers["Retry-After"]


def test_an_unusable_database_is_reported_without_a_500(gateway: LiveGateway, database_url: str) -> None:
    asyncio.run(execute(database_url, "DELETE FROM account"))
    answer = gateway.client.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (503, "unusable")


def test_a_full_database_is_not_ready(postgres: PostgresServer, vendor: Vendor, tmp_path: Path) -> None:
    url = postgres.create_database()
    tables = ("facts", "tasks")
    full = (
        (
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$"
        ),
        *(f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {t} EXECUTE FUNCTION full_disk()" for t in tables),
    )
    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url, database_url=url, secret_key="s") as gateway:
        asyncio.run(execute(url, *full))
        assert gateway.client.get("/readyz").json()["database"] == "ok"  # nothing has failed yet
        assert gateway.client.post("/v1/tasks", json={"prompt": "x"}).status_code == 503
        answer = gateway.client.get("/readyz")
        assert (answer.status_code, answer.json()["database"]) == (503, "unwritable")
        asyncio.run(execute(url, *(f"DROP TRIGGER full_disk ON {table}" for table in tables)))
        assert gateway.client.get("/readyz").status_code == 200
        gateway.client.submit()


def test_a_lock_that_keeps_all_events_from_being_committed_is_not_ready(
    postgres: PostgresServer, vendor: Vendor, tmp_path: Path
) -> None:
    url = postgres.create_database()

    async def while_locked() -> float:
        other = await asyncpg.connect(url)
        try:
            # As a replica does that numbers events and doesn't commit.
            await other.execute("SELECT pg_advisory_lock(1851879023)")
            began = time.monotonic()
            answer = await asyncio.to_thread(gateway.client.get, "/readyz")
            assert (answer.status_code, answer.json()["database"]) == (503, "unwritable")
            return time.monotonic() - began
        finally:
            await other.close()

    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url, database_url=url, secret_key="s") as gateway:
        assert gateway.client.get("/readyz").status_code == 200
        assert asyncio.run(while_locked()) < 4
        gateway.client.submit()
        assert gateway.client.get("/readyz").status_code == 200


def test_a_database_error_does_not_lose_the_upstream_id(tmp_path: Path, vendor: Vendor) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    refuse = (
        "CREATE TRIGGER refuse BEFORE UPDATE ON tasks WHEN NEW.status = 'processing' "
        "BEGIN SELECT RAISE(ABORT, 'not now'); END"
    )
    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url, database_url=url) as gateway:
        asyncio.run(execute(url, refuse))
        task = gateway.client.submit()
        vendor.wait_for_submits(1)
        assert gateway.client.task(task["id"])["status"] == "submitting"
        asyncio.run(execute(url, "DROP TRIGGER refuse"))
        assert gateway.client.wait_for(task["id"], "processing")["upstream_task_id"]
    assert len(vendor.submits) == 1


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/tasks", "GET, POST"),
        ("POST", "/v1/tasks/task_0", "DELETE, GET"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/v1/tokens", "POST"),
    ],
)
def test_a_wrong_method_gets_a_list_of_allowed_ones(gateway: LiveGateway, method: str, path: str, allowed: str) -> None:
    answer = gateway.client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert answer.json()["detail"] == f"This path only allows {allowed.replace(', ', ' and ')}."


def test_a_trailing_slash_does_not_redirect(gateway: LiveGateway) -> None:
    answer = gateway.client.post("/v1/tasks/", json={"prompt": "x"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_health_accepts_head_requests(gateway: LiveGateway) -> None:
    assert gateway.client.head("/healthz").status_code == 200
    assert gateway.client.head("/readyz").status_code == 200


def test_the_openapi_document_has_one_kind_of_error(gateway: LiveGateway) -> None:
    assert "HTTPValidationError" not in gateway.client.get("/openapi.json").text


@pytest.mark.slow
def test_one_sqlite_file_is_served_by_one_process(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as first:
        second = run_app(tmp_path, "serve", "--port", "0")
        assert second.returncode == 2
        line = second.stderr.splitlines()[-1]
        assert line.startswith("error: DATA_DIR has a SQLite file that another process is using")
        assert "set another DATA_DIR" in line
        assert first.client.get("/readyz").status_code == 200


def test_a_restart_waits_for_the_previous_process(tmp_path: Path, vendor: Vendor) -> None:
    with GatewayProcess(tmp_path) as first:
        first.process.terminate()
        with GatewayProcess(tmp_path) as second:
            assert until(lambda: first.process.poll() is not None, what="the end of the first")
            assert second.client.get("/readyz").status_code == 200


def test_only_the_owner_can_read_a_new_database_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    asyncio.run(execute(f"sqlite:///{tmp_path / 'test.db'}", "CREATE TABLE something (id INTEGER)"))
    assert [oct(path.stat().st_mode)[-3:] for path in tmp_path.glob("test.db*")] == ["600"]
