"""One who listens to the feed: a bounded buffer of what it has been told and has not taken yet."""

import asyncio
from collections.abc import Callable

from app.domain.caller import Caller
from app.errors import GatewayError
from app.shapes.event import BroadcastEvent
from app.writing.wake_up import WakeUp


class Subscription:
    """Listens to one task or, without `task_id`, to all that its caller owns; `endings_only` for who just waits.

    When more waits than the buffer may hold, the listener counts as too slow and hears nothing more until `clear`.
    """

    def __init__(
        self,
        caller: Caller,
        task_id: str | None = None,
        *,
        endings_only: bool = False,
        most_waiting: int = 1,
    ) -> None:
        self.project = caller.project
        self.subject = caller.subject
        self.owns = caller.owns
        self.until_over = caller.until_over
        self.task_id = task_id
        self.endings_only = endings_only
        self.is_too_slow = False
        self.is_closed = False
        self.ended_by: GatewayError | None = None
        """Why the caller is not let in any more."""
        self.on_close: Callable[[], None] | None = None
        self._most_waiting = most_waiting
        self._waiting: list[BroadcastEvent] = []
        self._wake_up = WakeUp()

    def push(self, event: BroadcastEvent) -> None:
        """Be told of an event."""
        if self.is_too_slow or self.ended_by is not None:
            return
        if len(self._waiting) >= self._most_waiting:
            self.is_too_slow = True
            self._waiting = []
        else:
            self._waiting.append(event)
        self._wake_up.wake()

    def close(self) -> None:
        """Hear nothing more: the process stops or the task is gone."""
        self.is_closed = True
        self._wake_up.wake()
        if self.on_close is not None:
            self.on_close()

    def end(self, why: GatewayError) -> None:
        """Hear nothing more, and forget what waits: the caller is not let in any more."""
        self.ended_by = why
        self._waiting = []
        self.close()

    def clear(self) -> None:
        """Forget what waits; it is read from the table instead."""
        self._waiting = []
        self.is_too_slow = False

    async def take(self, seconds: float) -> list[BroadcastEvent]:
        """Take what waits, or wait that long for something; empty too if the listener is too slow or closed."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        # The wake-up may be for an event that was already taken.
        while not (self._waiting or self.is_too_slow or self.is_closed) and (left := until - clock()) > 0:
            await self._wake_up.wait(left)
        taken, self._waiting = self._waiting, []
        return taken
