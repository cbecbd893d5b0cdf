"""The sandbox fetches input images and fails tasks when it can't."""

from collections.abc import Iterator

import pytest

from app.domain.destination import DestinationRules
from app.sandbox.inputs import InputReader
from app.sandbox.server import SandboxServer
from tests.support.servers.image_source import Source, reply

from .client import QUICK, Client

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    with Source() as running:
        yield running


def result(client: Client, *urls: str, endpoint: str = "generate-2") -> tuple[str, str | None]:
    task_id = client.accept(endpoint=endpoint, imageUrls=list(urls))
    state = client.settled(task_id)["state"]
    return state, client.record(task_id).json()["data"]["errorMessage"]


def test_an_image_that_can_be_fetched_is_used(client: Client, source: Source) -> None:
    url = source.on("/in.png", reply(PNG))
    assert result(client, url) == ("succeeded", None)
    assert source.asked[-1].path == "/in.png"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(b"", status="404 Not Found"), "The server responded with 404."),
        (reply(b"<html>"), "is not an image"),
        (b"", "The transfer was interrupted"),
    ],
)
def test_an_image_that_can_not_be_used_fails_the_task(
    client: Client, source: Source, answer: bytes, reason: str
) -> None:
    good, bad = source.on("/good.png", reply(PNG)), source.on("/bad.png", answer)
    state, message = result(client, good, bad)
    assert state == "failed"
    assert message is not None
    assert bad in message
    assert reason in message


def test_a_private_address_can_not_be_fetched(client: Client) -> None:
    state, message = result(client, "http://10.0.0.1/in.png")
    assert state == "failed"
    assert "private address" in (message or "")


def test_images_of_the_gateway_are_fetched_locally(source: Source) -> None:
    source.on("/v1/uploads/upl_1", reply(PNG))
    reader = InputReader(DestinationRules(), public_url="https://images.example.com", local_url=source.origin)
    server = SandboxServer(inputs=reader)
    server.start()
    try:
        with Client(server.url) as client:
            client.behave(**QUICK)
            assert result(client, "https://images.example.com/v1/uploads/upl_1") == ("succeeded", None)
            assert result(client, f"{source.origin.replace('127.0.0.1', '127.0.0.2')}/x")[0] == "failed"
    finally:
        server.stop()
