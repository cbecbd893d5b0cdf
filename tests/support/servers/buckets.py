"""An S3 server of the tests' own, on loopback."""

import contextlib
import io
import logging
import re
from collections.abc import Iterator

import httpx
import pytest
from moto.server import ThreadedMotoServer


class Buckets:
    """The running server. `environment` is what a client of it needs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def make(self, name: str) -> str:
        """Make an empty bucket; returns its name."""
        httpx.put(f"{self.url}/{name}", trust_env=False).raise_for_status()
        return name

    def sizes(self, bucket: str) -> dict[str, int]:
        """List all that lies in a bucket: bytes by key."""
        listing = httpx.get(f"{self.url}/{bucket}?list-type=2", trust_env=False).text
        return {key: int(size) for key, size in re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", listing)}


@contextlib.contextmanager
def run_buckets() -> Iterator[Buckets]:
    """Run a server until the end of the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # The library it is made of reads credentials when it starts.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        with contextlib.redirect_stdout(io.StringIO()):
            server.start()
    host, port = server.get_host_and_port()
    try:
        yield Buckets(f"http://{host}:{port}")
    finally:
        server.stop()
