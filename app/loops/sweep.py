"""When things past their time are taken away: every minute, batch by batch."""

from collections.abc import Awaitable, Callable, Sequence


class SweepLoop:
    """Sweeps by each of its brooms (take one batch away, tell whether there may be more) until nothing is left."""

    def __init__(self, brooms: Sequence[Callable[[], Awaitable[int]]]) -> None:
        self._brooms = tuple(brooms)

    async def run_once(self) -> int:
        """Sweep one batch of each kind; returns 0 when nothing is left."""
        return sum([await sweep() for sweep in self._brooms])
