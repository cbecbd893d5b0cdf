"""Webhook signing secrets, one per project, created on first use."""

from dataclasses import dataclass

import structlog

from app.clock import Clock
from app.db import webhook_secret_store
from app.db.engine import Database
from app.domain.webhook import WebhookSecret, new_secret
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class WebhookSecrets:
    """Returns and rotates the secrets of projects."""

    database: Database
    writer: Writer
    clock: Clock

    async def current(self, project: str) -> str:
        """Return the secret that verifies a project's webhooks."""
        return (await self._get(project)).secret

    async def signing(self, project: str) -> list[str]:
        """Return the secrets that currently sign webhooks, newest first."""
        return (await self._get(project)).signing(self.clock.now())

    async def rotate(self, project: str) -> str:
        """Replace a project's secret and return the new one.

        The old one also signs for a day. Concurrent rotations share one result.
        """
        before = await self._get(project)

        def work(unit: UnitOfWork) -> WebhookSecret:
            webhook_secret_store.replace(unit.connection, before, before.rotated(unit.now))
            return webhook_secret_store.get(unit.connection, project) or before

        after = await self.writer.run(work)
        _log.info("webhook_secret_rotated", project=project)
        return after.secret

    async def _get(self, project: str) -> WebhookSecret:
        found = await self.database.read(lambda connection: webhook_secret_store.get(connection, project))
        if found is not None:
            return found

        def work(unit: UnitOfWork) -> WebhookSecret:
            return webhook_secret_store.put_if_absent(unit.connection, new_secret(project, unit.now))

        return await self.writer.run(work)
