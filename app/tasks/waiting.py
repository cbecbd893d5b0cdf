"""Waiting for a task to end without asking the database again and again: the feed tells."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from app.domain.caller import Caller
from app.domain.task_state import TaskState
from app.errors import ServiceUnavailable, Unauthorized
from app.events.broadcaster import EventBroadcaster
from app.events.subscription import Subscription
from app.tasks.service import TaskService


class TaskWaiter:
    """Lets requests wait for their tasks, `most_waiting` at once."""

    def __init__(self, *, broadcaster: EventBroadcaster, tasks: TaskService, most_waiting: int) -> None:
        self._broadcaster = broadcaster
        self._tasks = tasks
        self._most_waiting = most_waiting
        self.count = 0
        """How many wait now."""

    @property
    def has_room(self) -> bool:
        """Whether one more request may wait; if not, it is to be answered with what is so."""
        return self.count < self._most_waiting

    async def after_submit(
        self, caller: Caller, accepted: TaskState, seconds: float, leaving: "asyncio.Future[None]"
    ) -> TaskState:
        """Like `until_ended`, for a task just accepted: whatever fails now must not make it look refused."""
        if accepted.task.is_terminal:
            return accepted
        try:
            return await self.until_ended(caller, accepted.task.id, seconds, leaving)
        except (ServiceUnavailable, Unauthorized, SQLAlchemyError):
            return accepted

    async def until_ended(
        self, caller: Caller, task_id: str, seconds: float, leaving: "asyncio.Future[None]"
    ) -> TaskState:
        """Return a task as soon as it has ended, or after that time, or when the process stops, as it is then.

        `leaving` is done when the client does not wait any more. Raises `TaskNotFound`, also if the task is deleted
        meanwhile, `Unauthorized` when the caller is not let in any more, and `ServiceUnavailable`.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        subscription = Subscription(caller, task_id, endings_only=True)
        leaving.add_done_callback(lambda _: subscription.close())
        self.count += 1
        try:
            with self._broadcaster.subscribed(subscription):
                await self._broadcaster.begin()
                # After it began to listen: an end that is not told is seen here.
                state = await self._tasks.get(caller, task_id)
                if state.task.is_terminal:
                    return state
                told = await subscription.take(deadline - asyncio.get_running_loop().time())
                if subscription.ended_by is not None:
                    raise subscription.ended_by
                if told:
                    return told[-1].state
        finally:
            self.count -= 1
        return await self._tasks.get(caller, task_id)
