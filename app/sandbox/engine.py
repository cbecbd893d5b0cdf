"""The engine: accepts orders, lets time pass over their tasks, sees to their callbacks."""

import asyncio
import contextlib
import hashlib
import logging
import random
import secrets
import time
import uuid
from typing import Any

from app.domain.models import Model
from app.sandbox.behavior import Behavior
from app.sandbox.courier import Courier, new_client
from app.sandbox.directives import Directives
from app.sandbox.orders import Order
from app.sandbox.plans import SubmitPlan, plan_submit, plan_task
from app.sandbox.store import Store
from app.sandbox.tasks import Task

log = logging.getLogger(__name__)


class Engine:
    """Everything that runs on its own. Lives on one event loop, between `start` and `close`."""

    def __init__(self, store: Store, behavior: Behavior, public_url: str) -> None:
        self.store = store
        self.public_url = public_url
        self.closing = asyncio.Event()
        self.behavior = behavior
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._client = new_client()
        self._courier = Courier(store, self._client, public_url)

    @property
    def behavior(self) -> Behavior:
        """How tasks to come are treated."""
        return self._behaviour

    @behavior.setter
    def behavior(self, behavior: Behavior) -> None:
        self._behaviour = behavior
        self._fresh_seed = secrets.token_hex(8)
        # For draws that belong to no prompt.
        self.dice = random.Random(self._fresh_seed if behavior.seed is None else behavior.seed)  # noqa: S311 -- play

    def start(self) -> None:
        """Go on with the tasks that an earlier process left."""
        for task in self.store.tasks(unsettled=True):
            self._animate(task)

    async def close(self) -> None:
        """Stop all timers and callbacks where they are; the store keeps what is left to do."""
        self.closing.set()
        await self._stop_lives()
        await self._client.aclose()

    async def forget(self) -> None:
        """Drop every task and submit."""
        await self._stop_lives()
        self.store.forget()

    def admit(self, seq: int, order: Order, directives: Directives) -> tuple[SubmitPlan, Task | None]:
        """Decide about submit number `seq`, and make its task if it is accepted. Raises `BehaviourError`."""
        prompt_key = hashlib.sha256(order.prompt.encode("utf-8", "surrogatepass")).hexdigest()
        nth_submit, nth_task = self.store.count_prompt(prompt_key)
        behavior = directives.apply(self._behaviour, nth_submit, nth_task)
        seed = self._fresh_seed if behavior.seed is None else behavior.seed
        # By prompt, not by order of arrival: concurrent submits replay too.
        luck = f"{seed}:{prompt_key}"
        plan = plan_submit(behavior, directives, luck, nth_submit)
        task = None
        if plan.accepted:
            model = Model(order.model)
            task_plan = plan_task(behavior, directives, f"{luck}:{nth_task}", model, early=plan.early)
            task = Task(id=uuid.uuid4().hex, order=order, plan=task_plan, created_at=time.time())
            self.store.add_task(task)
            self._animate(task)
        self.store.count_submit(seq, prompt_key, task.id if task else None)
        return plan, task

    async def settle(self, task: Task) -> None:
        """Wait until nothing is left to do for a task, or the engine closes."""
        life = self._lives.get(task.id)
        if life is not None:
            await self.unless_closing(life)

    async def doze(self, seconds: float) -> None:
        """Sleep, but wake when the engine closes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.closing.wait(), seconds)

    async def unless_closing(self, work: asyncio.Future[Any]) -> None:
        """Wait for `work`, but not beyond the closing of the engine; its result or error stays with it."""
        closing = asyncio.create_task(self.closing.wait())
        waits: set[asyncio.Future[Any]] = {work, closing}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()

    def _animate(self, task: Task) -> None:
        # A task that never ends needs no timer.
        if task.ready_at is not None:
            life = asyncio.create_task(self._live(task, task.ready_at))
            self._lives[task.id] = life
            life.add_done_callback(lambda done: self._bury(task.id, done))

    def _bury(self, task_id: str, done: asyncio.Task[None]) -> None:
        self._lives.pop(task_id, None)
        if not done.cancelled() and done.exception() is not None:
            log.error("sandbox task %s broke down", task_id, exc_info=done.exception())

    async def _live(self, task: Task, ready_at: float) -> None:
        if task.finished_at is None:
            await _sleep_until(ready_at)
            task = task.finished(time.time())
            self.store.finish(task.id, task.finished_at or ready_at)
        await _sleep_until((task.finished_at or ready_at) + task.plan.late_seconds)
        await self._courier.deliver(task, self._behaviour)

    async def _stop_lives(self) -> None:
        lives = list(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.time()))
