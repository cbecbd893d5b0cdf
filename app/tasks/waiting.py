"""Waiting for a task to finish, without polling the database."""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from app.domain.caller import Caller
from app.domain.task import TaskState
from app.errors import ServiceUnavailable, Unauthorized
from app.events.broadcaster import EventBroadcaster
from app.events.subscription import Subscription
from app.tasks.service import TaskService


@dataclass(eq=False, kw_only=True)
class TaskWaiter:
    """Lets up to `max_waits` requests wait; `count` are waiting."""

    broadcaster: EventBroadcaster
    tasks: TaskService
    max_waits: int
    count: int = field(default=0, init=False)

    @property
    def is_full(self) -> bool:
        """Whether further requests get the current state without waiting."""
        return self.count >= self.max_waits

    async def after_submit(
        self, caller: Caller, accepted: TaskState, seconds: float, disconnected: "asyncio.Future[None]"
    ) -> TaskState:
        """Wait for a task just accepted, without raising.

        An error would make the task look rejected.
        """
        if accepted.task.is_terminal:
            return accepted
        try:
            return await self.until_ended(caller, accepted.task.id, seconds, disconnected)
        except (ServiceUnavailable, Unauthorized, SQLAlchemyError):
            return accepted

    async def until_ended(
        self, caller: Caller, task_id: str, seconds: float, disconnected: "asyncio.Future[None]"
    ) -> TaskState:
        """Return a task when it finishes or the wait ends.

        The wait ends after `seconds`, when `disconnected` is done, or when the process stops. Raises `TaskNotFound`, also
        if the task is deleted while waiting, `Unauthorized` when the caller's credential ends, and `ServiceUnavailable`.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        subscription = Subscription(caller, task_id, endings_only=True)
        disconnected.add_done_callback(lambda _: subscription.close())
        self.count += 1
        try:
            async with self.broadcaster.subscribed(subscription):
                # Read after subscribing, so that no ending is missed in between.
                state = await self.tasks.get(caller, task_id)
                if state.task.is_terminal:
                    return state
                events = await subscription.take(deadline - asyncio.get_running_loop().time())
                if subscription.ended_by is not None:
                    raise subscription.ended_by
                if events:
                    return events[-1].state
        finally:
            self.count -= 1
        return await self.tasks.get(caller, task_id)
