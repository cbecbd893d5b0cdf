"""A loop that runs a step on a wake-up or periodically, survives its errors, and knows whether it is stuck."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from app.errors import ServiceUnavailable
from app.writing.wake_up import WakeUp

_log = structlog.get_logger(__name__)


class Loop:
    """Calls `run_once` until stopped.

    It is called again at once while it returns that it did something (> 0), else on a wake-up or after
    `interval` seconds. While it fails, the pause doubles up to `longest_pause` seconds. The loop counts as stuck when one step takes longer than `stuck_after` seconds.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[int]],
        *,
        wake_up: WakeUp,
        interval: float = 1.0,
        longest_pause: float = 10.0,
        stuck_after: float = 60.0,
    ) -> None:
        self.name = name
        self._run_once = run_once
        self._wake_up = wake_up
        self._interval = interval
        self._longest_pause = longest_pause
        self._stuck_after = stuck_after
        self._stopping = False
        self._step_began: float | None = None
        self._failing_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start in the background."""
        self._task = asyncio.create_task(self._run(), name=f"loop-{self.name}")

    async def stop(self) -> None:
        """Let the step under way finish, then stop."""
        self._stopping = True
        self._wake_up.wake()
        if self._task is not None:
            await self._task

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has died, its step under way takes too long, or no step has succeeded for as long."""
        if self._task is None:
            return False
        if self._task.done():
            return not self._stopping
        since = self._failing_since if self._failing_since is not None else self._step_began
        return since is not None and time.monotonic() - since > self._stuck_after

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            done = 0
            self._step_began = time.monotonic()
            try:
                done = await self._run_once()
                failures, self._failing_since = 0, None
            except ServiceUnavailable as error:
                failures += 1
                _log.warning("loop_waits", loop=self.name, reason=error.detail)
            except Exception:  # noqa: BLE001 -- logged; a loop that dies of one bad row would stop all work
                failures += 1
                _log.exception("loop_failed", loop=self.name)
            if failures:
                if self._failing_since is None:
                    self._failing_since = self._step_began
                await self._pause(min(self._interval * 2 ** min(failures - 1, 8), self._longest_pause))
            else:
                self._step_began = None
                if not done:
                    await self._wake_up.wait(self._interval)

    async def _pause(self, seconds: float) -> None:
        """Wait out a pause that wake-ups don't cut short, but a stop does."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            await self._wake_up.wait(left)
