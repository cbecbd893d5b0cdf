"""Clocks that tests set."""

import time
from dataclasses import dataclass


@dataclass
class HandClock:
    """The time of day, in milliseconds."""

    time: int = 1_800_000_000_000

    def now(self) -> int:
        return self.time

    def advance(self, milliseconds: int) -> None:
        self.time += milliseconds

    def to_now(self) -> None:
        """Set it to the system clock, which timestamps files."""
        self.time = round(time.time() * 1000)


@dataclass
class HandTimer:
    """A monotonic clock, in seconds."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds
