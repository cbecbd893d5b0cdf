"""Image files by key, in a directory or S3-compatible bucket."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from app.errors import ConfigurationError, StorageUnavailable
from app.storage.aws import endpoint
from app.storage.gate import StorageGate

_INCOMING = "incoming"
_ABANDONED_SECONDS = 24 * 3600
# Limits how much of an image is in memory. S3's minimum is 5 MiB per part.
_PART_BYTES = 5 * 1024 * 1024
_CONCURRENT_PARTS = 2
_CHUNK_BYTES = 256 * 1024
_FILES_PER_BATCH = 500
_log = structlog.get_logger(__name__)


class Missing(Exception):
    """No file has this key."""


class StoredFile(NamedTuple):
    """A file in the store; `modified` is in Unix milliseconds."""

    key: str
    bytes: int
    modified: int


class ImageStore:
    """Stores files under keys. All methods may raise `StorageUnavailable`.

    `directory` is None for a bucket. `gate` is closed while the store accepts no files.
    """

    def __init__(self, store: LocalStore | S3Store, *, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory
        self._responds = True
        self.gate = StorageGate("images")

    @property
    def is_reachable(self) -> bool:
        """Whether the last write and the last other request succeeded."""
        # Both count: a full disk can still be read.
        return self._responds and self.gate.is_open

    async def put(self, key: str, content: Path | bytes) -> None:
        """Store or replace a file, atomically and durably."""
        try:
            await self._put(key, content)
        except StorageUnavailable as error:
            self.gate.note_failure(_first_line(error.__cause__ or error))
            raise
        self.gate.note_success()

    async def probe(self) -> None:
        """Find out whether the store works again."""
        key = f"{_INCOMING}/check-{secrets.token_hex(16)}"
        await self.put(key, b"check")
        await self.delete(key)

    async def _put(self, key: str, content: Path | bytes) -> None:
        with self._translated("put", key):
            if self._directory is None:
                await self._write(key, content)
                return
            # obstore never syncs, so a power failure could leave half an image under the key. So the file is first
            # written and synced under another name.
            staged = f"{_INCOMING}/{secrets.token_hex(16)}"
            try:
                await self._write(staged, content)
                await asyncio.to_thread(_sync, self._directory / staged)
                await obstore.rename_async(self._store, staged, key)
            except BaseException:
                with contextlib.suppress(OSError):
                    (self._directory / staged).unlink(missing_ok=True)
                raise
            for folder in {(self._directory / key).parent, self._directory}:
                await asyncio.to_thread(_sync, folder)

    async def _write(self, key: str, content: Path | bytes) -> None:
        await obstore.put_async(
            self._store, key, content, chunk_size=_PART_BYTES, max_concurrency=_CONCURRENT_PARTS, mode="overwrite"
        )

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Read bytes from `start` to `end` (exclusive; None: all).

        Both must be within the file's size. Raises `Missing`. The iterator may raise `StorageUnavailable`.
        """
        with self._translated("open", key):
            range_ = {"offset": start} if end is None else (start, end)
            # No range for a whole file, as some stores serve ranges more slowly.
            options = None if (start, end) == (0, None) else {"range": range_}
            found = await obstore.get_async(self._store, key, options=options)  # type: ignore[arg-type]
            return self._chunks(key, found.stream(_CHUNK_BYTES))

    async def size(self, key: str) -> int:
        """Return the size of a file in bytes; raises `Missing`."""
        with self._translated("size", key):
            return int((await obstore.head_async(self._store, key))["size"])

    async def delete(self, key: str) -> None:
        """Delete a file, if it exists."""
        with contextlib.suppress(Missing), self._translated("delete", key):
            await obstore.delete_async(self._store, key)

    async def list_files(self, folder: str | None = None) -> AsyncIterator[list[StoredFile]]:
        """Yield files in batches, optionally of one folder.

        A folder is the part of keys before `/`. Files that this service didn't write are included.
        """
        with self._translated("list", folder or ""):
            async for batch in obstore.list(self._store, folder, chunk_size=_FILES_PER_BATCH):
                yield [
                    StoredFile(found["path"], found["size"], round(found["last_modified"].timestamp() * 1000))
                    for found in batch
                ]

    async def _chunks(self, key: str, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        with self._translated("read", key):
            async for chunk in stream:
                yield chunk

    @contextlib.contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        """Translate errors, and note whether the store responds."""
        try:
            yield
        except FileNotFoundError as error:
            # A missing bucket must not look like a missing file. Writes fail like this if the directory is gone.
            if action == "put" or "NoSuchBucket" in str(error):
                self._responds = False
                raise _unavailable(action, key, error) from error
            self._responds = True
            raise Missing(key) from None
        except (BaseError, OSError) as error:
            self._responds = False
            raise _unavailable(action, key, error) from error
        self._responds = True

    async def check(self) -> None:
        """Check that the store is writable.

        Raises `ConfigurationError` for permanent problems.
        """
        probe = f"{_INCOMING}/check-{secrets.token_hex(16)}"
        try:
            await obstore.put_async(self._store, probe, b"check")
            await obstore.delete_async(self._store, probe)
        except (BaseError, OSError) as error:
            if self._directory is not None:
                raise _unusable("the directory is not writable") from None
            if (problem := _refusal(error)) is not None:
                raise _unusable(problem) from None
            raise _unavailable("check", probe, error) from error
        except Exception as error:  # noqa: BLE001 -- a panic in the client; its class is not public
            raise _unusable(f"the storage client failed: {_first_line(error)}") from None
        if self._directory is not None:
            await asyncio.to_thread(_clear, self._directory / _INCOMING)


def open_store(storage_url: str | None, data_dir: Path) -> ImageStore:
    """Open `STORAGE_URL`: a directory or `s3://bucket/prefix`.

    The default is the directory `images` in `data_dir`. Buckets are configured by the usual `AWS_…` environment
    variables. Raises `ConfigurationError`.
    """
    if storage_url is None or not storage_url.startswith("s3://"):
        directory = Path(storage_url) if storage_url else data_dir / "images"
        try:
            directory = directory.absolute()
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return ImageStore(LocalStore(directory), directory=directory)
        except (BaseError, OSError, ValueError) as error:
            raise _unusable(getattr(error, "strerror", None) or "the directory can't be opened") from None
    bucket, _, prefix = storage_url.removeprefix("s3://").partition("/")
    address = endpoint()
    try:
        store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            client_options={
                "allow_http": address.lower().startswith("http://"),
                "connect_timeout": "5s",
                # Our readers may be slow, so only a silent store times out.
                "read_timeout": "15s",
                "timeout": "3600s",
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        )
    except (BaseError, ValueError, TypeError) as error:
        raise _unusable(_first_line(error)) from None
    return ImageStore(store)


def _unavailable(action: str, key: str, error: Exception) -> StorageUnavailable:
    _log.warning("storage_unavailable", action=action, key=key, error=_first_line(error))
    return StorageUnavailable("Image storage is unavailable.")


def _unusable(problem: str) -> ConfigurationError:
    return ConfigurationError(
        "STORAGE_URL",
        f"can't be used ({problem})",
        "allowed: a writable directory, or s3://BUCKET/PREFIX with the AWS_* variables for it",
    )


def _refusal(error: Exception) -> str | None:
    """Return a bucket's permanent problem; None if waiting may help."""
    text = str(error)
    if "NoSuchBucket" in text or isinstance(error, FileNotFoundError):
        return "the bucket does not exist"
    for code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "PermanentRedirect"):
        if code in text:
            return f"the bucket responds with {code}"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _clear(incoming: Path) -> None:
    """Delete day-old files left by killed writers."""
    before = time.time() - _ABANDONED_SECONDS
    for path in incoming.glob("*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
