import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, settings

from app.logging import configure_logs
from tests.support.databases.postgres import PostgresKeeper, PostgresServer, is_postgres_given
from tests.support.databases.sqlite import create_sqlite
from tests.support.servers.gateway import FREQUENT, LiveGateway
from tests.support.servers.vendor import Vendor
from tests.support.servers.webhook_receiver import Receiver

pytest_plugins = ["tests.support.fixtures"]
configure_logs("console", "error", [])
# Machines are shared and slow at times; what takes long is not wrong for it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


# `make test` leaves out tests with these markers, `make test-all` runs them, first of all because they take longest.
_FOLDERS = {"e2e": "e2e", "fuzz": "fuzz", "benchmarks": "benchmark", "deploy": "slow", "simulation": "simulation"}
_RUN = pytest.StashKey[str]()
_KEEPER = pytest.StashKey[PostgresKeeper]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the run; the processes of one run share a PostgreSQL server."""
    config.stash[_RUN] = _given(config).get("run") or uuid.uuid4().hex[:8]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Say to each worker of pytest-xdist where the run's PostgreSQL server is. It starts when first needed."""
    stash = node.config.stash
    node.workerinput["run"] = stash[_RUN]
    if not is_postgres_given():
        if _KEEPER not in stash:
            stash[_KEEPER] = PostgresKeeper()
        node.workerinput["postgres_keeper"] = stash[_KEEPER].address


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no server behind, and no database on the server that TEST_DATABASE_URL names."""
    if _KEEPER in config.stash:
        config.stash[_KEEPER].close()
    if is_postgres_given() and not _given(config) and not config.option.collectonly:
        PostgresServer(run=config.stash[_RUN]).drop_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of some folders, and begin with those: no worker is to be left alone with a long one."""
    for item in items:
        for folder in _FOLDERS.keys() & set(item.path.parts):
            item.add_marker(_FOLDERS[folder])
    folders = list(_FOLDERS)
    items.sort(key=lambda item: min((folders.index(part) for part in item.path.parts if part in folders), default=99))


def _given(config: pytest.Config) -> dict[str, Any]:
    """Return what pytest-xdist's controller says to this worker; empty in the controller or without workers."""
    return getattr(config, "workerinput", {})


@pytest.fixture(scope="session", autouse=True)
def _few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let TLS trust one authority, as loading the usual 150 in every process is slow."""
    file = tmp_path_factory.mktemp("authorities") / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The PostgreSQL server of this run."""
    with PostgresServer(_given(pytestconfig).get("postgres_keeper"), run=pytestconfig.stash[_RUN]) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with all tables and no rows, once of each kind."""
    if request.param == "sqlite":
        yield create_sqlite(tmp_path / "test.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without anything in it, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(migrated=False) as url:
        yield url


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    vendor = Vendor()
    yield vendor
    vendor.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def gateway(vendor: Vendor, database_url: str, tmp_path: Path) -> Iterator[LiveGateway]:
    """A gateway on each kind of database, in front of a scripted vendor."""
    with LiveGateway(
        data_dir=tmp_path / "data",
        upstream_url=vendor.url,
        database_url=database_url,
        secret_key="test-secret",
        loop_times=FREQUENT,
    ) as running:
        yield running
