"""Turns of the event loop, for tests of code that waits for nothing outside the process."""

import asyncio


async def turns(count: int = 5) -> None:
    """Let everything that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)
