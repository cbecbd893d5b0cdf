from collections.abc import Iterator

import pytest

from tests.server.application import Application
from tests.support.clients.raw_connection import RawConnection
from tests.support.servers.http_server import HttpServer


@pytest.fixture(scope="module")
def application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[HttpServer]:
    with HttpServer(application) as server:
        yield server


@pytest.fixture
def line(server: HttpServer) -> Iterator[RawConnection]:
    with RawConnection(server.port) as line:
        yield line
