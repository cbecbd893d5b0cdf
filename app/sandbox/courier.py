"""The courier: takes a finished task's notices to its callback address, in their order."""

import asyncio
import logging
import time
from dataclasses import dataclass

import httpx

from app.sandbox.behavior import Behavior
from app.sandbox.reports import notice
from app.sandbox.store import Store
from app.sandbox.tasks import Task

_OK = 200
_MAX_ANSWER_BYTES = 65_536
# The behaviour's timeout ends tries earlier.
_MAX_TIMEOUT_SECONDS = 600
_HEADERS = {"Content-Type": "application/json", "User-Agent": "nanobanana-sandbox/1"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Courier:
    """Delivers callbacks and notes every try. Wrong notices are sent once; the verdict until a 200 or given up."""

    store: Store
    client: httpx.AsyncClient
    public_url: str

    async def deliver(self, task: Task, behavior: Behavior) -> None:
        """Send what is left of the task's notices; a receiver that can't be reached is nobody's trouble."""
        notices = task.plan.notices if task.order.callback_url else ()
        for number, kind in enumerate(notices[task.notices_sent :], start=task.notices_sent + 1):
            await self._deliver_one(task, kind, behavior)
            self.store.progress(task.id, notices_sent=number, settled=False)
        self.store.progress(task.id, notices_sent=len(notices), settled=True)

    async def _deliver_one(self, task: Task, kind: str, behavior: Behavior) -> None:
        body = notice(kind, task, self.public_url)
        tries = behavior.callback_tries if kind == "verdict" else 1
        pauses = behavior.callback_pauses_seconds
        for number in range(tries):
            if number:
                await asyncio.sleep(pauses[min(number, len(pauses)) - 1])
            if await self._try(task, kind, body, behavior.callback_timeout_seconds) == _OK:
                return

    async def _try(self, task: Task, kind: str, body: bytes, seconds: float) -> int | None:
        url, at = task.order.callback_url or "", time.time()
        status, error = None, None
        try:
            # httpx limits each step; the vendor's patience is for the whole.
            async with asyncio.timeout(seconds):
                status = await self._post(url, body)
        except TimeoutError:
            error = f"no answer within {seconds:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        if error is not None:
            log.info("callback of sandbox task %s failed: %s", task.id, error)
        self.store.add_callback(
            task.id, at=at, notice=kind, url=_plain(url), status=status, error=None if error is None else _plain(error)
        )
        return status

    async def _post(self, url: str, body: bytes) -> int:
        async with self.client.stream("POST", url, content=body, headers=_HEADERS) as answer:
            size = 0
            # Read to the end so that the connection can be used again, unless there is no end.
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > _MAX_ANSWER_BYTES:
                    break
            return answer.status_code


def new_client() -> httpx.AsyncClient:
    """Build the client for callbacks: follows no redirects, uses no proxy; slow receivers don't hold up others."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits, timeout=_MAX_TIMEOUT_SECONDS)


def _plain(text: str) -> str:
    """Text as ASCII: what strangers send may hold what no encoding can."""
    return text.encode("ascii", "backslashreplace").decode()
