"""Subscriptions buffer a limited number of broadcast events."""

import asyncio
from collections.abc import Callable

from app.domain.caller import Caller
from app.domain.task import TERMINAL
from app.errors import GatewayError
from app.shapes.event import BroadcastEvent
from app.writing.wake_up import WakeUp

_ENDINGS = frozenset(f"task.{status.value}" for status in TERMINAL)


class Subscription:
    """Receives the events of a task, or of a caller.

    With `endings_only`, it receives only the end of a task. With more than `max_waiting` events, it counts as too slow:
    the buffer is emptied and receives nothing until `clear` is called.
    """

    def __init__(
        self, caller: Caller, task_id: str | None = None, *, endings_only: bool = False, max_waiting: int = 1
    ) -> None:
        self.caller = caller
        self.task_id = task_id
        self.is_too_slow = False
        self.is_closed = False
        self.ended_by: GatewayError | None = None
        """Why the caller's credential ended, if it did."""
        self.on_close: Callable[[], None] | None = None
        self._endings_only = endings_only
        self._max_waiting = max_waiting
        self._waiting: list[BroadcastEvent] = []
        self._wake_up = WakeUp()

    def wants(self, event_type: str) -> bool:
        """Whether the subscription receives events of this type."""
        return not self._endings_only or event_type in _ENDINGS

    def push(self, event: BroadcastEvent) -> None:
        """Add an event if it is wanted and visible."""
        is_for_us = self.wants(event.type) and self.caller.owns(event.state.task)
        if not is_for_us or self.is_too_slow or self.ended_by is not None:
            return
        if len(self._waiting) >= self._max_waiting:
            self.is_too_slow = True
            self._waiting = []
        else:
            self._waiting.append(event)
        self._wake_up.wake()

    def close(self) -> None:
        """Wake the reader for the last time."""
        self.is_closed = True
        self._wake_up.wake()
        if self.on_close is not None:
            self.on_close()

    def end(self, reason: GatewayError) -> None:
        """Close and drop waiting events, as the credential has ended."""
        self.ended_by = reason
        self._waiting = []
        self.close()

    def clear(self) -> None:
        """Drop waiting events, to read them from the table instead."""
        self._waiting = []
        self.is_too_slow = False

    async def take(self, seconds: float) -> list[BroadcastEvent]:
        """Wait for events; returns none at timeout, overflow or close."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        # The wake-up may be for an event that was already taken.
        while not (self._waiting or self.is_too_slow or self.is_closed) and (left := until - clock()) > 0:
            await self._wake_up.wait(left)
        taken, self._waiting = self._waiting, []
        return taken
