"""A directory and a bucket behave alike."""

import asyncio
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.domain.blob import original_key, sha256_of, thumbnail_key
from app.errors import ConfigurationError, StorageUnavailable
from app.settings import Settings
from app.storage.spool import Spool
from app.storage.store import ImageStore, Missing, open_store
from tests.support.paths import ROOT
from tests.support.servers.buckets import Buckets, run_buckets

CONTENT = random.Random(1).randbytes(12 * 1024 * 1024 + 17)
SHA = hashlib.sha256(CONTENT).hexdigest()
KEY = original_key(SHA)


async def read(store: ImageStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in await store.open(key, start, end)])


async def listed(store: ImageStore, folder: str | None = None) -> dict[str, int]:
    return {found.key: found.bytes async for batch in store.list_files(folder) for found in batch}


async def test_a_file_is_read_whole_and_in_ranges(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(CONTENT)
    await store.put(KEY, tmp_path / "picture")
    assert await store.size(KEY) == len(CONTENT)
    assert await read(store, KEY) == CONTENT
    assert await read(store, KEY, 5, 20) == CONTENT[5:20]
    assert await read(store, KEY, len(CONTENT) - 1) == CONTENT[-1:]
    assert await read(store, KEY, 0, 1) == CONTENT[:1]


async def test_reading_yields_small_chunks(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(CONTENT)
    await store.put(KEY, tmp_path / "picture")
    sizes = [len(chunk) async for chunk in await store.open(KEY)]
    assert max(sizes) <= 1024 * 1024


async def test_an_unknown_key_is_missing(store: ImageStore) -> None:
    await store.check()
    with pytest.raises(Missing):
        await store.open(KEY)
    with pytest.raises(Missing):
        await store.size(KEY)
    await store.delete(KEY)


async def test_putting_again_replaces(store: ImageStore) -> None:
    await store.put(KEY, b"half a pict")
    await store.put(KEY, b"a picture")
    assert await read(store, KEY) == b"a picture"


async def test_files_are_listed_by_folder_with_their_age(store: ImageStore) -> None:
    await store.check()
    other = original_key("ff" * 32)
    small = thumbnail_key(SHA, 256)
    for key in (KEY, small, other):
        await store.put(key, key.encode())
    assert await listed(store, SHA[:2]) == {KEY: len(KEY), small: len(small)}
    assert await listed(store, "ff") == {other: len(other)}
    assert await listed(store, "00") == {}
    assert set(await listed(store)) == {KEY, small, other}
    (batch,) = [batch async for batch in store.list_files("ff")]
    assert abs(batch[0].modified - time.time() * 1000) < 60_000
    await store.delete(KEY)
    assert await listed(store, SHA[:2]) == {small: len(small)}
    assert [sha256_of(key) for key in (KEY, small, "ab/readme.txt", other[:-1])] == [SHA, SHA, None, None]


async def test_the_check_leaves_nothing_behind(store: ImageStore) -> None:
    await store.check()
    assert await listed(store, "incoming") == {}


async def test_many_writers_of_one_key_do_not_mix(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(CONTENT)
    await asyncio.gather(*(store.put(KEY, tmp_path / "picture") for _ in range(4)))
    assert hashlib.sha256(await read(store, KEY)).hexdigest() == SHA
    assert await listed(store, "incoming") == {}


async def test_an_unreadable_file_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises((Missing, StorageUnavailable)):
        await store.put(KEY, tmp_path / "is-not-there")
    with pytest.raises(Missing):
        await store.size(KEY)
    assert await listed(store, "incoming") == {}


WRITER = """
import asyncio, sys
from pathlib import Path
from app.storage.store import open_store

async def main():
    store = open_store(sys.argv[1], Path("."))
    print("writing", flush=True)
    while True:
        await store.put(sys.argv[3], Path(sys.argv[2]))

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(CONTENT)
    store = open_store(str(tmp_path / "store"), tmp_path)
    for delay in (0.0, 0.005, 0.01, 0.02, 0.03):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "store"), str(tmp_path / "picture"), KEY],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)  # so that it dies at different moments
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        try:
            assert hashlib.sha256(asyncio.run(read(store, KEY))).hexdigest() == SHA
        except Missing:
            assert not list((tmp_path / "store").glob("[0-9a-f][0-9a-f]/*"))
        asyncio.run(store.delete(KEY))


async def test_files_of_killed_writers_are_deleted_after_a_day(tmp_path: Path) -> None:
    store = open_store(None, tmp_path)
    incoming = tmp_path / "images" / "incoming"
    incoming.mkdir()
    for name in ("old#1", "young#1"):
        (incoming / name).write_bytes(b"half")
    os.utime(incoming / "old#1", (time.time() - 90_000, time.time() - 90_000))
    await store.check()
    assert [path.name for path in incoming.iterdir()] == ["young#1"]


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    """Checks the order of calls, without cutting the power."""
    picture = tmp_path / "picture"
    picture.write_bytes(b"x" * 1000)
    script = WRITER.replace("while True:", "if True:")
    trace = tmp_path / "trace"
    names = "fsync,rename,renameat,renameat2"
    command = [sys.executable, "-c", script, str(tmp_path / "store"), str(picture), KEY]
    try:
        subprocess.run(["strace", "-f", "-y", "-e", f"trace={names}", "-o", trace, *command], cwd=ROOT, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("strace is missing or not permitted")
    calls = [line for line in trace.read_text().splitlines() if "/store" in line and not re.search("#1|ENOENT", line)]
    kinds = ["rename" if "rename" in line else "fsync" for line in calls]
    assert kinds == ["fsync", "rename", "fsync", "fsync"]
    assert "incoming" in calls[0]


def test_a_directory_that_cannot_be_created_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        ConfigurationError, match=r"^STORAGE_URL can't be used \(Not a directory\); allowed: .+"
    ) as refused:
        open_store(str(tmp_path / "file" / "images"), tmp_path)
    assert "\n" not in str(refused.value)


async def test_an_unwritable_directory_stops_the_start(tmp_path: Path) -> None:
    store = open_store(None, tmp_path)
    (tmp_path / "images" / "incoming").write_bytes(b"a file where a directory should be")
    with pytest.raises(ConfigurationError, match="STORAGE_URL can't be used"):
        await store.check()


async def test_a_missing_bucket_stops_the_start(
    buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in buckets.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://nowhere", tmp_path)
    with pytest.raises(ConfigurationError, match=r"STORAGE_URL can't be used .the bucket does not exist") as refused:
        await store.check()
    assert "\n" not in str(refused.value)
    # After the start it is a temporary failure: a missing bucket doesn't mean that its images are missing.
    with pytest.raises(StorageUnavailable):
        await store.open(KEY)


async def test_an_unavailable_bucket_does_not_mean_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_buckets() as short_lived:
        for name, value in short_lived.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{short_lived.make('away')}", tmp_path)
        await store.put(KEY, b"a picture")
    for action in (store.open(KEY), store.size(KEY), store.put(KEY, b"x"), store.delete(KEY), store.check()):
        with pytest.raises(StorageUnavailable):
            await action


@pytest.mark.parametrize("wrong", ["gs://bucket", "http://bucket/x", "s3://", "s3:///x", "s3://bucket/x?y=1"])
def test_an_unknown_kind_of_storage_is_rejected(wrong: str) -> None:
    with pytest.raises(ValueError, match="neither a directory nor s3:// with a bucket"):
        Settings(_env_file=None, storage_url=wrong)


def test_the_spool_keeps_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with spool.file() as path:
        path.write_bytes(b"x")
        left = tmp_path / "spool" / "image-left"
        left.write_bytes(b"x")
        os.utime(left, (time.time() - 90_000, time.time() - 90_000))
        assert spool.clear() == 1
        assert path.exists()
    assert list((tmp_path / "spool").iterdir()) == []
