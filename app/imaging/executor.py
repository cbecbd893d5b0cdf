"""Where pictures are worked on: off the event loop, few at once, so that memory stays bounded."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.imaging.inspect import MAX_PIXELS, ImageInfo, inspect, opened, read_layout
from app.imaging.strip import strip
from app.imaging.thumbnail import thumbnail

T = TypeVar("T")
# Decoding takes up to 16 bytes a pixel.
_LARGE_PIXELS = 12_000_000


class ImageExecutor:
    """Runs the work on pictures on threads of its own, at most `at_once` at a time and one large one."""

    def __init__(self, *, at_once: int = 2, max_pixels: int = MAX_PIXELS) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="pictures")
        self._max_pixels = max_pixels
        self._large = threading.Lock()

    async def inspect(self, path: Path) -> ImageInfo:
        """Check a file, see `inspect.inspect`; raises `BadImage`."""
        work = partial(inspect, path, max_pixels=self._max_pixels)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, path, work)

    async def thumbnail(self, path: Path, width: int) -> bytes:
        """Make a small WebP of a picture that was inspected, see `thumbnail.thumbnail`; raises `BadImage`."""
        work = partial(thumbnail, path, width)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, path, work)

    def _decode(self, path: Path, work: Callable[[], T]) -> T:
        with opened(path) as data:
            _, layout = read_layout(data)
        with self._large if layout.width * layout.height > _LARGE_PIXELS else contextlib.nullcontext():
            return work()

    async def strip(self, source: Path, target: Path) -> None:
        """Copy a picture without its metadata, see `strip.strip`; raises `BadImage`."""
        await asyncio.get_running_loop().run_in_executor(self._threads, strip, source, target)

    def close(self) -> None:
        """End the threads; work under way is waited for, work that waits is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)
