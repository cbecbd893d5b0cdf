"""Clocks that tests set."""

import time
from dataclasses import dataclass


@dataclass
class HandClock:
    """The time of day in milliseconds, with a monotonic clock."""

    time: int = 1_800_000_000_000
    steps: int = 0
    """The sum of all steps, in milliseconds."""

    def now(self) -> int:
        return self.time

    def advance(self, milliseconds: int) -> None:
        self.time += milliseconds

    def step(self, milliseconds: int) -> None:
        """Set it forward or back without time passing."""
        self.time += milliseconds
        self.steps += milliseconds

    def timer(self) -> float:
        """The monotonic clock, in seconds."""
        return (self.time - self.steps) / 1000

    def to_now(self) -> None:
        """Set it to the system clock, which timestamps files."""
        self.time = round(time.time() * 1000)


@dataclass
class WrongClock:
    """The machine's clock, off by some milliseconds."""

    ahead: int = 0

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead


@dataclass
class HandTimer:
    """A monotonic clock, in seconds."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds
