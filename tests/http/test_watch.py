"""Looking after requests that are on their way for long."""

import asyncio

from app.http.watch import Watch
from app.logs import bind_request_id, current_request_id


class Watched:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.looked = self.loop.create_future()

    def look(self, now: float) -> None:
        if not self.looked.done():
            self.looked.set_result(current_request_id())


async def test_what_is_seen_does_not_belong_to_the_request_that_was_there_first() -> None:
    watch, watched = Watch(0.01), Watched()

    async def serve() -> None:
        bind_request_id("one")
        watch.add(watched)

    await asyncio.create_task(serve())
    assert await watched.looked == ""
    watch.discard(watched)
