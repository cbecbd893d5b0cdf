"""The gallery: draws pictures when they are first asked for, and keeps the latest."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from app.sandbox.pictures import Picture, draw

_CACHE_BYTES = 64 * 1024 * 1024


class Gallery:
    """Pictures on demand. One thread draws, so that answers to everything else stay prompt."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[Picture, bytes] = OrderedDict()
        self._drawing: dict[Picture, asyncio.Future[bytes]] = {}
        self._size = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-pictures")

    def close(self) -> None:
        """Draw nothing more; does not wait for the picture in hand."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def cached(self, picture: Picture) -> bytes | None:
        """Return the picture if it has been drawn lately."""
        if picture in self._drawn:
            self._drawn.move_to_end(picture)
        return self._drawn.get(picture)

    def drawing(self, picture: Picture) -> asyncio.Future[bytes]:
        """Return the picture to come; asked for by several at once it is drawn once."""
        if picture not in self._drawing:
            work = asyncio.get_running_loop().run_in_executor(self._thread, draw, picture)
            self._drawing[picture] = work
            work.add_done_callback(lambda done: self._keep(picture, done))
        return self._drawing[picture]

    def _keep(self, picture: Picture, done: asyncio.Future[bytes]) -> None:
        del self._drawing[picture]
        if done.cancelled() or done.exception() is not None:
            return
        self._drawn[picture] = done.result()
        self._size += len(done.result())
        while self._size > _CACHE_BYTES:
            _, oldest = self._drawn.popitem(last=False)
            self._size -= len(oldest)
