"""Gateways that many tests share, and those that a test starts with its own settings."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.keys import KEY
from tests.support.clients.webhooks import HOOKED
from tests.support.databases.sqlite import create_sqlite
from tests.support.servers.gateway import FREQUENT, LiveGateway
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import Vendor, envelope

Start = Callable[..., LiveGateway]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _module_gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(empty_database(request.param, request, directory), directory) as served:
        yield served


@pytest.fixture
def served(_module_gateway: Served) -> Iterator[Served]:
    """One gateway on each kind of database for all tests of a file; tests see each other's tasks."""
    _module_gateway.calm()
    yield _module_gateway
    _module_gateway.calm()


@pytest.fixture(scope="module")
def _module_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(create_sqlite(directory / "test.db"), directory) as served:
        yield served


@pytest.fixture
def on_sqlite(_module_sqlite: Served) -> Iterator[Served]:
    """Like `served`, on SQLite alone: for what has nothing to do with the database."""
    _module_sqlite.calm()
    yield _module_sqlite
    _module_sqlite.calm()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _module_keyed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("keyed")
    with serve(empty_database(request.param, request, directory), directory, bootstrap_api_key=KEY) as served:
        yield served


@pytest.fixture
def keyed(_module_keyed: Served) -> Iterator[Served]:
    """A gateway on each kind of database that requires a key; its vendor refuses what it is sent."""
    _module_keyed.vendor.on_submit = lambda _: envelope(400, "no")
    yield _module_keyed
    _module_keyed.calm()


@pytest.fixture(scope="module")
def _module_keyed_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("keyed")
    with serve(create_sqlite(directory / "test.db"), directory, bootstrap_api_key=KEY) as served:
        yield served


@pytest.fixture
def keyed_sqlite(_module_keyed_sqlite: Served) -> Iterator[Served]:
    """Like `keyed`, on SQLite alone."""
    _module_keyed_sqlite.vendor.on_submit = lambda _: envelope(400, "no")
    yield _module_keyed_sqlite
    _module_keyed_sqlite.calm()


@pytest.fixture
def start(vendor: Vendor, tmp_path: Path) -> Iterator[Start]:
    """Start gateways on SQLite, or wherever a test says, with the settings that it needs."""
    with ExitStack() as stack:

        def run(**settings: Any) -> LiveGateway:
            given = {"data_dir": tmp_path / "data", "secret_key": "s", "loop_times": FREQUENT, **settings}
            return stack.enter_context(LiveGateway(upstream_url=vendor.url, **given))

        yield run


@pytest.fixture
def hooked(start: Start, database_url: str) -> LiveGateway:
    """A gateway on each kind of database that may call receivers on this machine and is quick to try again."""
    return start(database_url=database_url, **HOOKED)
