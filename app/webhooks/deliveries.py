"""Lists and repeats webhook deliveries for clients."""

from dataclasses import dataclass

import structlog

from app.db import delivery_store, task_store
from app.db.engine import Connection, Database
from app.domain import delivery as rules
from app.domain.caller import Caller
from app.domain.delivery import Attempt, Delivery, DeliveryState
from app.domain.destination import DestinationRules
from app.errors import DeliveryNotFound, Forbidden, InvalidRequest
from app.outbound.urls import problem_with
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryLog:
    """A delivery with its attempts, oldest first."""

    delivery: Delivery
    attempts: list[Attempt]


@dataclass(eq=False, kw_only=True)
class DeliveryService:
    """Checks webhook URLs, and lists and repeats deliveries."""

    database: Database
    writer: Writer
    destinations: DestinationRules
    wake_up: WakeUp

    def check_url(self, caller: Caller, url: str) -> None:
        """Check a webhook URL without a DNS lookup.

        Raises `InvalidRequest`, and `Forbidden` for browser tokens: web pages must not make us call servers.
        """
        if caller.token is not None:
            raise Forbidden("Browser tokens can't set webhook_url.")
        problem = problem_with(url, self.destinations)
        if problem is not None:
            raise InvalidRequest.field("webhook_url", problem)

    async def page(
        self,
        caller: Caller,
        *,
        task_id: str | None,
        state: DeliveryState | None,
        before_id: str | None,
        limit: int,
    ) -> tuple[list[DeliveryLog], str | None]:
        """Return a page of deliveries, newest first.

        Also returns the page's last id, or None if it is the last page.
        """

        def work(connection: Connection) -> tuple[list[DeliveryLog], str | None]:
            if task_id is not None and not caller.owns(task_store.get(connection, task_id)):
                return [], None
            project = caller.project if task_id is None else None
            found = delivery_store.page(
                connection, project=project, task_id=task_id, state=state, before_id=before_id, limit=limit + 1
            )
            shown = found[:limit]
            attempts = delivery_store.attempts_of(connection, [delivery.id for delivery in shown])
            logs = [DeliveryLog(delivery, attempts[delivery.id]) for delivery in shown]
            return logs, shown[-1].id if len(found) > limit else None

        return await self.database.read(work)

    async def redeliver(self, caller: Caller, delivery_id: str) -> DeliveryLog:
        """Start a delivery over in any state; raises `DeliveryNotFound`."""

        def work(unit: UnitOfWork) -> DeliveryLog:
            delivery = delivery_store.lock(unit.connection, delivery_id)
            if delivery is None or delivery.project != caller.project:
                raise DeliveryNotFound(f"No webhook delivery has the ID {delivery_id[:64]}.")
            delivery = rules.redeliver(delivery, unit.now)
            delivery_store.save(unit.connection, [delivery])
            return DeliveryLog(delivery, delivery_store.attempts_of(unit.connection, [delivery_id])[delivery_id])

        log = await self.writer.run(work)
        _log.info("webhook_redelivered", delivery_id=delivery_id, task_id=log.delivery.task_id)
        self.wake_up.wake()
        return log
