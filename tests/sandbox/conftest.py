from collections.abc import Iterator

import pytest

from app.sandbox.server import SandboxServer

from .client import Client
from .receiver import Receiver


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[SandboxServer]:
    server = SandboxServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(shared_sandbox: SandboxServer) -> Iterator[Client]:
    """A client of an empty, fast sandbox."""
    with Client(shared_sandbox.url) as client:
        assert client.delete("/sandbox/state").status_code == 204
        client.behave()
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()
