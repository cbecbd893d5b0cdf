"""How the service starts with different image stores."""

from pathlib import Path

import pytest

from app.domain.blob import sha256_of
from tests.support.images.samples import encode, noise
from tests.support.servers.buckets import Buckets
from tests.support.servers.gateway_process import run_app
from tests.support.servers.served import serve


def test_an_unusable_directory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = run_app(tmp_path, "serve", "--port", "0", STORAGE_URL=str(tmp_path / "file" / "images"))
    (line,) = done.stderr.splitlines()
    assert done.returncode != 0
    assert line.startswith("error: STORAGE_URL can't be used (Not a directory); allowed: ")


def test_a_bucket_is_found_with_variables_from_the_env_file(buckets: Buckets, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in buckets.environment.items()))
    done = run_app(tmp_path, "serve", "--port", "0", STORAGE_URL="s3://nowhere/prefix")
    assert done.returncode != 0
    assert "STORAGE_URL can't be used (the bucket does not exist)" in done.stderr.splitlines()[-1]


def test_a_gateway_on_a_bucket(buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in buckets.environment.items():
        monkeypatch.setenv(name, value)
    bucket = buckets.make("gateway")
    picture = encode(noise(600, 400), "PNG")
    settings = {"storage_url": f"s3://{bucket}/kept", "public_base_url": "http://localhost:1"}
    with serve(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, **settings) as served:
        kept = served.client.post("/v1/uploads", content=picture, headers={"Content-Type": "image/png"}).json()
        path = f"/v1/uploads/{kept['id']}"
        assert served.client.get(path).content == picture
        part = served.client.get(path, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, picture[100:200])
        small = served.client.get(f"{path}?w=256").content
        found = buckets.sizes(bucket)
        pictures = [size for key, size in found.items() if sha256_of(key.removeprefix("kept/"))]
        assert sorted(pictures) == [len(small), len(picture)]
        assert all(key.startswith("kept/") for key in found)
        assert not (tmp_path / "data" / "images").exists()
