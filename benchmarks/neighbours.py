"""How much of the machine others use while something is measured: numbers of a busy machine are worth little."""

import os
import time

import psutil

from benchmarks.databases import Databases
from benchmarks.processes import cpu_seconds_of_tree

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


class Neighbours:
    """Watches the machine from its making on."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._began = time.monotonic()
        self._used = self._used_by_others()

    def note(self) -> str:
        """Tell what part of all cores' time went to other programs."""
        seconds = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        share = (self._used_by_others() - self._used) / seconds
        return f"Other programs used {min(max(share, 0.0), 1.0):.0%} of the machine meanwhile."

    def _used_by_others(self) -> float:
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in _BUSY)
        return busy - cpu_seconds_of_tree(os.getpid()) - self._databases.server_cpu_seconds()
