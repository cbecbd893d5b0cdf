"""Polling for conditions without notifications, such as other processes' state."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05


def until(look: Callable[[], T | None], *, seconds: float = 15.0, what: str = "it") -> T:
    """Poll until `look` returns neither None nor False."""
    # Poll less and less often, as polling slows down what we wait for.
    began = time.monotonic()
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(min(max(waited / 10, _SHORTEST_PAUSE), _LONGEST_PAUSE))
