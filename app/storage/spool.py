"""Temporary files for received images, until they are stored."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from app.errors import StorageUnavailable
from app.storage.gate import StorageGate

_ABANDONED_SECONDS = 24 * 3600
_log = structlog.get_logger(__name__)


class Spool:
    """A directory of temporary files that processes may share.

    `gate` is closed while no file can be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.gate = StorageGate("temporary files")

    @contextlib.contextmanager
    def file(self) -> Iterator[Path]:
        """Create an empty file for this block.

        Raises `StorageUnavailable` if it can't be written, even later in the block.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix="image-", delete=False) as created:
                path = Path(created.name)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("spool_unusable", directory=str(self._directory), error=str(error))
            raise StorageUnavailable("Temporary storage is full or can't be written.") from error

    def clear(self) -> int:
        """Delete day-old files left by killed processes; returns how many."""
        before = time.time() - _ABANDONED_SECONDS
        removed = 0
        for path in self._directory.glob("image-*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed
