"""Accepts orders, finishes their tasks on time, and sends callbacks."""

import asyncio
import hashlib
import random
import secrets
import time
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import httpx

from app.sandbox.behavior import Behavior
from app.sandbox.directives import Directives
from app.sandbox.inputs import InputReader
from app.sandbox.orders import Order
from app.sandbox.plans import GENERATION_FAILED, OK, SubmitPlan, plan_submit, plan_task
from app.sandbox.reports import callback_body
from app.sandbox.store import Store, Submit, Task

_HEADERS = {"Content-Type": "application/json", "User-Agent": "nanobanana-sandbox/1"}


class Engine:
    """Runs tasks on one event loop, between `start` and `close`."""

    def __init__(self, store: Store, behavior: Behavior, public_url: str, inputs: InputReader) -> None:
        self.store = store
        self._inputs = inputs
        self.public_url = public_url
        self.closing = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        # No connection limit, so slow receivers don't delay others. `callback_timeout_seconds` limits each attempt.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(headers=_HEADERS, trust_env=False, limits=limits, timeout=None)  # noqa: S113
        self.behave(behavior)

    def behave(self, behavior: Behavior) -> None:
        """Set the behavior of later submits and reseed the draws."""
        self.behavior = behavior
        self._seed = secrets.token_hex(8) if behavior.seed is None else behavior.seed
        # For draws without a prompt.
        self.dice = random.Random(self._seed)  # noqa: S311 -- not for secrets

    def start(self) -> None:
        """Continue the tasks left by an earlier process."""
        for task in self.store.tasks.values():
            self._run(task)

    async def close(self) -> None:
        """Stop all timers and callbacks; the store keeps unfinished work."""
        self.closing.set()
        await self._stop()
        await self._client.aclose()

    async def clear(self) -> None:
        """Delete all tasks and submits."""
        await self._stop()
        self.store.clear()

    def admit(self, submit: Submit, order: Order, directives: Directives) -> SubmitPlan:
        """Plan a submit and create its task; raises `BehaviorError`."""
        prompt_key = hashlib.sha256(order.prompt.encode("utf-8", "surrogatepass")).hexdigest()
        nth_submit, nth_task = self.store.count_prompt(prompt_key)
        behavior = directives.apply(self.behavior, nth_submit, nth_task)
        # Seeded by prompt, not by order of arrival, so that concurrent submits are repeatable too.
        luck = f"{self._seed}:{prompt_key}"
        plan = plan_submit(behavior, directives, luck, nth_submit)
        if plan.is_accepted:
            task_plan = plan_task(behavior, directives, f"{luck}:{nth_task}", order.model, is_early=plan.is_early)
            task = Task(id=uuid.uuid4().hex, order=order, plan=task_plan, created_at=time.time())
            self.store.add(task)
            self._run(task)
            submit.task_id = task.id
        submit.prompt_key = prompt_key
        submit.fault = plan.fault
        self.store.save(submit)
        return plan

    async def wait_settled(self, task_id: str) -> None:
        """Wait until a task is settled or the engine closes."""
        if task_id in self._running:
            await self.wait(asyncio.shield(self._running[task_id]))

    async def wait(self, work: "Coroutine[Any, Any, None] | asyncio.Future[Any]") -> None:
        """Wait for work; closing the engine cancels it."""
        waits = {asyncio.ensure_future(work), asyncio.ensure_future(self.closing.wait())}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for future in waits:
            future.cancel()

    def _run(self, task: Task) -> None:
        if task.plan.delay is not None and not task.is_settled:
            running = asyncio.create_task(self._finish(task, task.created_at + task.plan.delay))
            self._running[task.id] = running
            running.add_done_callback(lambda _: self._running.pop(task.id, None))

    async def _finish(self, task: Task, due_at: float) -> None:
        if task.finished_at is None:
            await asyncio.sleep(due_at - time.time())
            await self._check_inputs(task)
            task.finished_at = time.time()
            self.store.save(task)
        await asyncio.sleep(task.finished_at + task.plan.late_seconds - time.time())
        if task.order.callback_url is not None:
            for kind in task.plan.callbacks[task.callbacks_done :]:
                await self._call_back(task, kind, task.order.callback_url)
                task.callbacks_done += 1
                self.store.save(task)
        task.is_settled = True
        self.store.save(task)

    async def _check_inputs(self, task: Task) -> None:
        """Fail a task whose input images can't be fetched."""
        if task.plan.code == OK and (problem := await self._inputs.problem(task.order.image_urls)):
            task.plan = replace(task.plan, code=GENERATION_FAILED)
            task.problem = problem

    async def _call_back(self, task: Task, kind: str, url: str) -> None:
        """Send a callback; only results are retried, until a 200."""
        body = callback_body(kind, task, self.public_url)
        pauses = self.behavior.callback_pauses_seconds
        for number in range(self.behavior.callback_tries if kind == "result" else 1):
            if number:
                await asyncio.sleep(pauses[min(number, len(pauses)) - 1])
            attempt = {"kind": kind, "at": time.time(), "url": url, **await self._post(url, body)}
            task.callbacks.append(attempt)
            self.store.save(task)
            if attempt["status"] == OK:
                return

    async def _post(self, url: str, body: bytes) -> dict[str, Any]:
        seconds = self.behavior.callback_timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._client.stream("POST", url, content=body) as reply:
                return {"status": reply.status_code, "error": None}
        except TimeoutError:
            error = f"no response within {seconds:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return {"status": None, "error": error}

    async def _stop(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
