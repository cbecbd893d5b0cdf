"""A clock that moves when told to."""

import time


class HandClock:
    """Tells the time that a test has set, in milliseconds."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def advance(self, milliseconds: int) -> None:
        self._now += milliseconds

    def to_now(self) -> None:
        """Set it to what the machine's clock shows, as files bear its times."""
        self._now = round(time.time() * 1000)
