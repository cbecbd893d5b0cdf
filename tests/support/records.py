"""Records of fake servers, which threads can wait for."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class Records:
    """A lock for records; releasing it wakes threads in `wait_for`."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())

    def __enter__(self) -> None:
        self._condition.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._condition.notify_all()
        self._condition.release()

    def wait_for(self, look: Callable[[], T | None], *, seconds: float = 15.0, what: str = "it") -> T:
        """Wait until `look` returns neither None nor False."""
        deadline = time.monotonic() + seconds
        with self._condition:
            while (found := look()) is None or found is False:
                if not self._condition.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{what} did not happen within {seconds} s")
            return found
