"""Where pictures are worked on: off the event loop, few at once, so that memory stays bounded."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from app.imaging.inspect import MAX_PIXELS, Picture, inspect
from app.imaging.strip import strip
from app.imaging.thumbnail import thumbnail


class Workshop:
    """Runs the work on pictures on threads of its own, at most `at_once` pictures at a time."""

    def __init__(self, *, at_once: int = 2, max_pixels: int = MAX_PIXELS) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="pictures")
        self._max_pixels = max_pixels

    async def inspect(self, path: Path) -> Picture:
        """Check a file, see `inspect.inspect`; raises `BadPicture`."""
        work = partial(inspect, path, max_pixels=self._max_pixels)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def thumbnail(self, path: Path, width: int) -> bytes:
        """Make a small WebP of a picture that was inspected, see `thumbnail.thumbnail`; raises `BadPicture`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, thumbnail, path, width)

    async def strip(self, source: Path, target: Path) -> None:
        """Copy a picture without its metadata, see `strip.strip`; raises `BadPicture`."""
        await asyncio.get_running_loop().run_in_executor(self._threads, strip, source, target)

    def close(self) -> None:
        """End the threads; work under way is waited for, work that waits is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)
