from collections.abc import Iterator

import pytest

from tests.server.application import Application
from tests.support.bare import BareServer
from tests.support.line import Line


@pytest.fixture(scope="module")
def application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[BareServer]:
    with BareServer(application) as server:
        yield server


@pytest.fixture
def line(server: BareServer) -> Iterator[Line]:
    with Line(server.port) as line:
        yield line
