"""Waiting for a task to finish, without polling the database."""

import asyncio
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from app.domain.caller import Caller
from app.domain.task import TaskState
from app.errors import ServiceUnavailable, Unauthorized
from app.events.broadcaster import EventBroadcaster
from app.events.subscription import Subscription
from app.tasks.service import TaskService
from app.web.open_requests import OpenRequests


@dataclass(eq=False, kw_only=True)
class TaskWaiter:
    """Lets requests wait for their tasks."""

    broadcaster: EventBroadcaster
    tasks: TaskService
    open_requests: OpenRequests

    def may_wait(self, caller: Caller) -> bool:
        """Whether another request of the caller may wait."""
        return self.open_requests.refusal(caller) is None

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

        The wait ends after `seconds`, when `disconnected` is done, or when the process stops. Raises `TaskNotFound`,
        also if the task is deleted while waiting, `Unauthorized` when the caller's credential ends, and
        `ServiceUnavailable`.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        subscription = Subscription(caller, task_id, endings_only=True)
        disconnected.add_done_callback(lambda _: subscription.close())
        with self.open_requests.opened(caller):
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
        return await self.tasks.get(caller, task_id)
