"""Delivering webhooks: claim what is due, host by host, post each once, record what came of it."""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from app.clock import Clock
from app.db import deliveries as delivery_rows
from app.db import tasks as task_rows
from app.db.engine import Database
from app.domain import delivery as rules
from app.domain import webhook
from app.domain.delivery import Answer, Attempt, Delivery
from app.errors import ServiceUnavailable
from app.outbound.webhooks import WebhookClient
from app.services.bell import Bell
from app.services.unit import Unit
from app.services.webhook_secrets import WebhookSecrets
from app.services.writer import Writer
from app.shapes.base import encode
from app.shapes.event import webhook_message

_HOSTS_AT_ONCE = 500
_PER_HOST = 4
# A host that gave no answer the last time gets one place until it does: there may be many such hosts.
_PER_SILENT_HOST = 1
_SILENT_REMEMBERED = 10_000
_RECORD_PAUSE_SECONDS = 0.5
_log = structlog.get_logger(__name__)


class Deliver:
    """Claims and posts deliveries. `schedule` has the pauses between tries in ms; `bell` is rung when one is due.

    Each is delivered at least once: a process that dies leaves what it has in hand to others when its lease is over,
    and nobody can tell whether its last try arrived.
    """

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        client: WebhookClient,
        signing_secrets: WebhookSecrets,
        clock: Clock,
        schedule: Sequence[int],
        base_url: str,
        bell: Bell,
    ) -> None:
        self._database = database
        self._writer = writer
        self._client = client
        self._signing_secrets = signing_secrets
        self._clock = clock
        self._schedule = tuple(schedule)
        self._base_url = base_url
        self._bell = bell
        self._random = random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._name = secrets.token_hex(8)
        """Names this process in the claims it makes."""
        self._in_hand: dict[str, Delivery] = {}
        self._silent: set[str] = set()
        self._served_last = ""

    async def claim(self, limit: int) -> list[Delivery]:
        """Claim up to `limit` deliveries that are due, in turn from all hosts that have free places."""
        places = await self._find_places(limit)
        if not places:
            return []
        claimed = await self._writer.run(lambda unit: self._claim(unit, places))
        self._served_last = list(places)[-1]
        self._in_hand.update((delivery.id, delivery) for delivery in claimed)
        return claimed

    async def send(self, delivery: Delivery) -> None:
        """Post a claimed delivery, once, and record the outcome. Cancelled, it is put back for others."""
        try:
            await self._send(delivery)
        except ServiceUnavailable as error:
            _log.warning("webhook_waits", delivery_id=delivery.id, reason=error.detail)
        except asyncio.CancelledError:
            with suppress(ServiceUnavailable):
                await self._writer.run(lambda unit: self._put_back(unit, delivery.id))
            raise
        finally:
            self._in_hand.pop(delivery.id, None)

    async def _find_places(self, limit: int) -> Mapping[str, int]:
        """Say how many deliveries of which hosts are to be taken in hand: one of each in turn, then the next."""
        due = await self._due_hosts(limit)
        busy = Counter(delivery.host for delivery in self._in_hand.values())
        places: Counter[str] = Counter()
        for _ in range(_PER_HOST):
            for host in due:
                if busy[host] + places[host] < self._most_at_once(host) and places.total() < limit:
                    places[host] += 1
        return places

    async def _due_hosts(self, limit: int) -> list[str]:
        """List up to `limit` hosts with something due and a free place, beginning after the one served last."""
        now = self._clock.now()
        busy = Counter(delivery.host for delivery in self._in_hand.values())
        seen: set[str] = set()
        due: list[str] = []
        async with self._database.reading() as connection:
            for beginning in dict.fromkeys((self._served_last, "")):
                after: str | None = beginning
                while after is not None and len(due) < limit:
                    hosts = await delivery_rows.hosts(connection, after=after, at_most=_HOSTS_AT_ONCE)
                    new = [(host, due_at) for host, due_at in hosts if host not in seen]
                    seen.update(host for host, _ in new)
                    due += [host for host, at in new if at <= now and busy[host] < self._most_at_once(host)]
                    after = hosts[-1][0] if new and len(hosts) == _HOSTS_AT_ONCE else None
        return due[:limit]

    def _most_at_once(self, host: str) -> int:
        return _PER_SILENT_HOST if host in self._silent else _PER_HOST

    async def _claim(self, unit: Unit, places: Mapping[str, int]) -> list[Delivery]:
        claimed: list[Delivery] = []
        for host, count in places.items():
            due = await delivery_rows.claimable(unit.connection, host, now=unit.now, limit=count)
            # One still in hand here is past its lease because its outcome can't be recorded.
            claimed += [rules.claim(d, self._name, unit.now) for d in due if d.id not in self._in_hand]
        if claimed:
            await delivery_rows.save(unit.connection, claimed)
        return claimed

    async def _put_back(self, unit: Unit, delivery_id: str) -> None:
        delivery = await delivery_rows.lock(unit.connection, delivery_id)
        if delivery is not None:
            await delivery_rows.save(unit.connection, [rules.release(delivery, self._name, unit.now)])

    async def _send(self, delivery: Delivery) -> None:
        async with self._database.reading() as connection:
            task = await task_rows.get(connection, delivery.task_id)
            images = await task_rows.images_of(connection, [delivery.task_id])
        if task is None:
            return
        signing = await self._signing_secrets.signing(delivery.project)
        body = encode(webhook_message(delivery, task, images[task.id], self._base_url))
        at, began = self._clock.now(), time.monotonic()
        answer = await self._client.post(delivery.url, body, webhook.headers(delivery, body, signing, at))
        latency = round((time.monotonic() - began) * 1000)
        self._note_silence(delivery.host, answer)
        attempt = Attempt(
            delivery_id=delivery.id,
            at=at,
            status=answer.status,
            error=answer.error,
            latency_ms=latency,
            response=answer.response,
        )
        after = await self._record(attempt, answer)
        has_failed = after is not None and after.state is rules.DeliveryState.FAILED
        tell = _log.warning if has_failed else _log.info
        tell(
            "webhook",
            delivery_id=delivery.id,
            task_id=delivery.task_id,
            host=delivery.host,
            status=answer.status,
            error=answer.error,
            milliseconds=latency,
            state=after.state.value if after else "deleted",
        )

    async def _record(self, attempt: Attempt, answer: Answer) -> Delivery | None:
        """Write what came of a try, as often as it takes until the lease ends; then others try in any case."""
        give_up_at = attempt.at + rules.LEASE
        while True:
            try:
                after = await self._writer.run(lambda unit: self._settle(unit, attempt, answer))
            except ServiceUnavailable:
                if self._clock.now() >= give_up_at:
                    raise
                await asyncio.sleep(_RECORD_PAUSE_SECONDS)
            else:
                if after is not None and after.due_at is not None:
                    self._bell.ring_after(max(after.due_at - self._clock.now(), 0) / 1000)
                return after

    async def _settle(self, unit: Unit, attempt: Attempt, answer: Answer) -> Delivery | None:
        delivery = await delivery_rows.lock(unit.connection, attempt.delivery_id)
        if delivery is None:
            return None
        after = rules.settle(
            delivery, answer, by=self._name, now=unit.now, schedule=self._schedule, jitter=self._random.random()
        )
        await delivery_rows.save(unit.connection, [after])
        await delivery_rows.add_attempt(unit.connection, attempt, number=after.attempts)
        return after

    def _note_silence(self, host: str, answer: Answer) -> None:
        if answer.status is not None:
            self._silent.discard(host)
        elif len(self._silent) < _SILENT_REMEMBERED:
            self._silent.add(host)
