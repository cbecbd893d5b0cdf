"""Files on their way: what is received is written here, checked, and only then stored."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from app.errors import StorageUnavailable

_ABANDONED_SECONDS = 24 * 3600
_log = structlog.get_logger(__name__)


class Spool:
    """A directory of short-lived files, which may be shared with other processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def file(self) -> Iterator[Path]:
        """Make an empty file and remove it in the end, whatever happens.

        Raises `StorageUnavailable` if there is no room for it, or for what is written to it.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix="picture-", delete=False) as made:
                path = Path(made.name)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("spool_unusable", directory=str(self._directory), error=str(error))
            raise StorageUnavailable("There is no room for pictures on their way.") from error

    def clear(self) -> int:
        """Remove what a process that was killed left behind a day ago or earlier; returns how many files."""
        before = time.time() - _ABANDONED_SECONDS
        removed = 0
        for path in self._directory.glob("picture-*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed
