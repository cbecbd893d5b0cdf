"""Clocks that move when told to."""

from dataclasses import dataclass


@dataclass
class HandClock:
    """The time of day, in milliseconds."""

    time: int = 1_800_000_000_000

    def now(self) -> int:
        return self.time


@dataclass
class Hand:
    """A monotonic clock, in seconds."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds
