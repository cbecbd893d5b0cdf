from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.store import ImageStore, open_store
from tests.support.servers.buckets import Buckets, run_buckets


@pytest.fixture(scope="package")
def buckets() -> Iterator[Buckets]:
    with run_buckets() as running:
        yield running


@pytest.fixture(params=["directory", "bucket"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty directory, and an empty bucket."""
    if request.param == "directory":
        return str(tmp_path / "store")
    buckets: Buckets = request.getfixturevalue("buckets")
    for name, value in buckets.environment.items():
        monkeypatch.setenv(name, value)
    name = tmp_path.name.lower().replace("_", "-").replace("[", "").replace("]", "")
    return f"s3://{buckets.make(f'b-{name}'[-60:].strip('-'))}/some/prefix"


@pytest.fixture
def store(storage_url: str, tmp_path: Path) -> ImageStore:
    return open_store(storage_url, tmp_path)
