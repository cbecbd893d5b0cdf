"""CPU use by other programs, which distorts measurements."""

import os
import time

import psutil

from benchmarks.databases import Databases
from benchmarks.processes import cpu_seconds_of_tree

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


class Neighbors:
    """Measures other programs' CPU use since its creation."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._began = time.monotonic()
        self._used = self._used_by_others()

    def note(self) -> str:
        """Report other programs' share of all cores' time."""
        seconds = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        share = (self._used_by_others() - self._used) / seconds
        return f"Other programs used {min(max(share, 0.0), 1.0):.0%} of the CPU time during the run."

    def _used_by_others(self) -> float:
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in _BUSY)
        return busy - cpu_seconds_of_tree(os.getpid()) - self._databases.server_cpu_seconds()
