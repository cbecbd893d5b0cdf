"""The gallery: draws images on demand and keeps the latest."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from app.sandbox.pictures import Picture, draw

_KEPT_IMAGES = 32


class Gallery:
    """Draws on one thread, so that everything else is answered promptly and no image is drawn twice at once."""

    def __init__(self) -> None:
        self._draw = lru_cache(maxsize=_KEPT_IMAGES)(draw)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-pictures")

    def draw(self, picture: Picture) -> asyncio.Future[bytes]:
        """Start to draw an image, unless it was drawn lately."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._draw, picture)

    def close(self) -> None:
        """Draw nothing more. Does not wait for the image in progress."""
        self._thread.shutdown(wait=False, cancel_futures=True)
