"""Fixtures for gateways, shared or with a test's own settings."""

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
    """A gateway per database kind, shared by a file's tests."""
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
    """Like `served`, but only on SQLite."""
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
    """Like `served`, but requires a key; the vendor rejects submits."""
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
    """Like `keyed`, but only on SQLite."""
    _module_keyed_sqlite.vendor.on_submit = lambda _: envelope(400, "no")
    yield _module_keyed_sqlite
    _module_keyed_sqlite.calm()


@pytest.fixture
def start(vendor: Vendor, tmp_path: Path) -> Iterator[Start]:
    """Start gateways with a test's settings, on SQLite by default."""
    with ExitStack() as stack:

        def run(**settings: Any) -> LiveGateway:
            given = {"data_dir": tmp_path / "data", "secret_key": "s", "loop_times": FREQUENT, **settings}
            return stack.enter_context(LiveGateway(upstream_url=vendor.url, **given))

        yield run


@pytest.fixture
def hooked(start: Start, database_url: str) -> LiveGateway:
    """A gateway that delivers to local receivers and retries quickly."""
    return start(database_url=database_url, **HOOKED)
