"""A local S3 server."""

import contextlib
import io
import logging
import re
from collections.abc import Iterator

import httpx
import pytest
from moto.server import ThreadedMotoServer


class Buckets:
    """The running server; `environment` configures its clients."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def make(self, name: str) -> str:
        """Create an empty bucket and return its name."""
        httpx.put(f"{self.url}/{name}", trust_env=False).raise_for_status()
        return name

    def sizes(self, bucket: str) -> dict[str, int]:
        """Return the sizes of a bucket's objects by key."""
        listing = httpx.get(f"{self.url}/{bucket}?list-type=2", trust_env=False).text
        return {key: int(size) for key, size in re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", listing)}


@contextlib.contextmanager
def run_buckets() -> Iterator[Buckets]:
    """Run a server until the end of the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Its library reads credentials at startup.
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
