"""Event loop iterations, for code that waits for no I/O."""

import asyncio


async def turns(count: int = 5) -> None:
    """Run everything that is ready."""
    for _ in range(count):
        await asyncio.sleep(0)
