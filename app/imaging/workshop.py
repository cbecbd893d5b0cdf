"""Where pictures are worked on: off the event loop, few at once, so that memory stays bounded."""

from pathlib import Path

from app.imaging.inspect import MAX_PIXELS, Picture


class Workshop:
    """Runs the work on pictures on threads of its own, at most `at_once` pictures at a time."""

    def __init__(self, *, at_once: int = 2, max_pixels: int = MAX_PIXELS) -> None:
        self._at_once = at_once
        self._max_pixels = max_pixels

    async def inspect(self, path: Path) -> Picture:
        """Check a file, see `inspect.inspect`; raises `BadPicture`."""
        raise NotImplementedError

    async def thumbnail(self, path: Path, width: int) -> bytes:
        """Make a small WebP of a picture that was inspected, see `thumbnail.thumbnail`; raises `BadPicture`."""
        raise NotImplementedError

    async def strip(self, source: Path, target: Path) -> None:
        """Copy a picture without its metadata, see `strip.strip`; raises `BadPicture`."""
        raise NotImplementedError

    def close(self) -> None:
        """End the threads; work under way is waited for."""
        raise NotImplementedError
