"""A background loop that survives errors and reports being stuck."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field

import structlog

from app.errors import ServiceUnavailable
from app.writing.wake_up import WakeUp

_STUCK_AFTER_SECONDS = 60.0
_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Loop:
    """Calls `run_once` until stopped.

    If it returns more than 0, it is called again at once, otherwise on a wake-up or after `interval_seconds`. After
    errors, the pause doubles up to `max_pause_seconds`.
    """

    name: str
    run_once: Callable[[], Awaitable[int]]
    _: KW_ONLY
    wake_up: WakeUp
    interval_seconds: float = 1.0
    max_pause_seconds: float = 10.0
    _stopping: bool = field(default=False, init=False)
    _step_began: float | None = field(default=None, init=False)
    _failing_since: float | None = field(default=None, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start in the background."""
        self._task = asyncio.create_task(self._run(), name=f"loop-{self.name}")

    def stop(self) -> None:
        """Stop once the current step has finished."""
        self._stopping = True
        self.wake_up.wake()

    def cancel(self) -> None:
        """Stop in the middle of the current step.

        The step must be repeatable.
        """
        self.stop()
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait for the loop to end after `stop` or `cancel`."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def is_stuck(self) -> bool:
        """Whether the loop died, hangs or keeps failing."""
        if self._task is None:
            return False
        if self._task.done():
            return not self._stopping
        since = self._failing_since if self._failing_since is not None else self._step_began
        return since is not None and time.monotonic() - since > _STUCK_AFTER_SECONDS

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            done = 0
            self._step_began = time.monotonic()
            try:
                done = await self.run_once()
                failures, self._failing_since = 0, None
            except ServiceUnavailable as error:
                failures += 1
                _log.warning("loop_waits", loop=self.name, reason=error.detail)
            except Exception:  # noqa: BLE001 -- logged: one bad row must not stop all work
                failures += 1
                _log.exception("loop_failed", loop=self.name)
            if failures:
                if self._failing_since is None:
                    self._failing_since = self._step_began
                await self._pause(min(self.interval_seconds * 2 ** min(failures - 1, 8), self.max_pause_seconds))
            else:
                self._step_began = None
                if not done:
                    await self.wake_up.wait(self.interval_seconds)

    async def _pause(self, seconds: float) -> None:
        """Pause. Only `stop` ends it early."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            await self.wake_up.wait(left)
