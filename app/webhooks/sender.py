"""Sends webhooks: claims due ones, posts them, records outcomes."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from app.clock import Clock
from app.db import delivery_store, task_store
from app.db.engine import Connection, Database
from app.domain import delivery as rules
from app.domain import webhook
from app.domain.delivery import Attempt, Delivery, DeliveryResponse
from app.domain.image import Image
from app.domain.task import Task
from app.shapes.base import encode
from app.shapes.event import webhook_message
from app.webhooks.client import WebhookClient
from app.webhooks.host_turns import HostTurns
from app.webhooks.secrets import WebhookSecrets
from app.writing.leased_work import LeasedWork
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class WebhookSender:
    """Claims and posts deliveries, `workers` at a time.

    `schedule` lists the pauses between attempts in milliseconds. `wake_up` wakes when a delivery is due. Delivery is at
    least once: if a process dies, another one repeats its attempts after the lease.
    """

    database: Database
    writer: Writer
    client: WebhookClient
    signing_secrets: WebhookSecrets
    clock: Clock
    schedule: Sequence[int]
    base_url: str
    wake_up: WakeUp
    workers: int = 64

    def __post_init__(self) -> None:
        self._hosts = HostTurns(self.database, self.workers)
        self._work: LeasedWork[Delivery] = LeasedWork("webhook", lambda d: (d.id, d.due_at or 0), clock=self.clock)

    async def claim(self, limit: int) -> list[Delivery]:
        """Claim up to `limit` due deliveries; hosts take turns."""
        permits = await self._hosts.permits(limit, self._work.items, self.clock.now())
        if not permits:
            return []
        claimed = await self._work.claim(self.writer.run(lambda unit: self._claim(unit, permits)))
        self._hosts.note_served(permits)
        return claimed

    async def send(self, delivery: Delivery) -> None:
        """Post a claimed delivery once and record the outcome.

        If canceled, put it back.
        """
        await self._work.run(delivery, self._send(delivery), put_back=partial(self._put_back, delivery.id))

    def _claim(self, unit: UnitOfWork, permits: Mapping[str, int]) -> list[Delivery]:
        # This process may still hold a delivery past its lease, if the outcome can't be recorded.
        in_hand = self._work.ids
        claimed: list[Delivery] = []
        for host, count in permits.items():
            due = delivery_store.claimable(unit.connection, host, now=unit.now, limit=count)
            claimed += [rules.claim(d, self._work.owner, unit.now) for d in due if d.id not in in_hand]
        if claimed:
            delivery_store.save(unit.connection, claimed)
        return claimed

    async def _send(self, delivery: Delivery) -> None:
        task, images = await self.database.read(lambda connection: _read(connection, delivery.task_id))
        if task is None:
            return
        signing = await self.signing_secrets.signing(delivery.project)
        body = encode(webhook_message(delivery, task, images, self.base_url))
        at, began = self.clock.now(), time.monotonic()
        response = await self.client.post(delivery.url, body, webhook.headers(delivery, body, signing, at))
        latency = round((time.monotonic() - began) * 1000)
        self._hosts.note_response(
            delivery.host,
            has_responded=response.status is not None,
            is_success=response.is_success,
            latency_ms=latency,
        )
        attempt = Attempt(
            delivery_id=delivery.id,
            at=at,
            status=response.status,
            error=response.error,
            latency_ms=latency,
            response=response.response,
        )
        after = await self._work.record(
            lambda: self.writer.run(lambda unit: self._settle(unit, attempt, response)), until=at + rules.LEASE_MS
        )
        if after is not None and after.due_at is not None:
            self.wake_up.wake_after(max(after.due_at - self.clock.now(), 0) / 1000)
        _report(delivery, attempt, after)

    def _settle(self, unit: UnitOfWork, attempt: Attempt, response: DeliveryResponse) -> Delivery | None:
        delivery = delivery_store.lock(unit.connection, attempt.delivery_id)
        if delivery is None:
            return None
        jitter = random.random()  # noqa: S311 -- spreads retries
        after = rules.settle(
            delivery, response, by=self._work.owner, now=unit.now, schedule=self.schedule, jitter=jitter
        )
        delivery_store.save(unit.connection, [after])
        delivery_store.add_attempt(unit.connection, attempt, number=after.attempts)
        return after

    async def _put_back(self, delivery_id: str) -> None:
        def release(unit: UnitOfWork) -> None:
            delivery = delivery_store.lock(unit.connection, delivery_id)
            if delivery is not None:
                delivery_store.save(unit.connection, [rules.release(delivery, self._work.owner, unit.now)])

        await self.writer.run(release)


def _read(connection: Connection, task_id: str) -> tuple[Task | None, list[Image]]:
    return task_store.get(connection, task_id), task_store.images_of(connection, [task_id])[task_id]


def _report(delivery: Delivery, attempt: Attempt, after: Delivery | None) -> None:
    has_failed = after is not None and after.state is rules.DeliveryState.FAILED
    log = _log.warning if has_failed else _log.info
    log(
        "webhook",
        delivery_id=delivery.id,
        task_id=delivery.task_id,
        host=delivery.host,
        status=attempt.status,
        error=attempt.error,
        milliseconds=attempt.latency_ms,
        state=after.state.value if after else "deleted",
    )
