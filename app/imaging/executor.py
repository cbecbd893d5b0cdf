"""Image processing on threads, with limited memory."""

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
# Decoding takes up to 16 bytes per pixel, so only one large image is decoded at a time.
_LARGE_PIXELS = 12_000_000


class ImageExecutor:
    """Processes up to `max_threads` images at once; methods raise `BadImage`."""

    def __init__(self, *, max_threads: int = 2, max_pixels: int = MAX_PIXELS) -> None:
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="images")
        self._max_pixels = max_pixels
        self._large = threading.Lock()

    async def inspect(self, path: Path) -> ImageInfo:
        """Run `inspect.inspect`."""
        return await self._run(self._decode, path, partial(inspect, path, max_pixels=self._max_pixels))

    async def thumbnail(self, path: Path, width: int) -> bytes:
        """Run `thumbnail.thumbnail` on an inspected image."""
        return await self._run(self._decode, path, partial(thumbnail, path, width))

    async def strip(self, source: Path, target: Path) -> None:
        """Run `strip.strip`."""
        await self._run(strip, source, target)

    def close(self) -> None:
        """Wait for work in progress; drop queued work."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _decode(self, path: Path, work: Callable[[], T]) -> T:
        with opened(path) as data:
            _, layout = read_layout(data)
        with self._large if layout.width * layout.height > _LARGE_PIXELS else contextlib.nullcontext():
            return work()
