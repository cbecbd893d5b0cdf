"""How the service stops while the image store is silent."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.databases.sqlite import create_sqlite
from tests.support.servers.buckets import Buckets
from tests.support.servers.database_proxy import DatabaseProxy
from tests.support.servers.served import serve
from tests.support.waiting import until

_DUE = "INSERT INTO blobs (hash, bytes, created_at, check_at, is_going) VALUES (?, 1, 0, 0, false)"


def test_a_stop_does_not_wait_for_a_silent_bucket(
    buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client waits up to half a minute for each file."""
    for name, value in buckets.environment.items():
        monkeypatch.setenv(name, value)
    storage_url = f"s3://{buckets.make('silent')}"
    with DatabaseProxy(buckets.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{urlsplit(proxy.url).port}")
        with (
            serve(create_sqlite(tmp_path / "test.db"), tmp_path, storage_url=storage_url) as served,
            closing(sqlite3.connect(tmp_path / "test.db")) as database,
        ):
            task, submit = served.processing(prompt="a cat")
            assert served.call_back(submit, {"code": 501, "msg": "failed", "data": {}}).status_code == 200
            proxy.fall_silent()
            with database:
                database.execute(_DUE, ("a" * 64,))
            assert served.client.delete(f"/v1/tasks/{task['id']}").status_code == 204
            until(lambda: database.execute("SELECT is_going FROM blobs").fetchone() == (1,), what="a deletion")
            began = time.monotonic()
        # The storage client gives up after 15 s.
        assert time.monotonic() - began < 12
