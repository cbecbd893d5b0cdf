"""Statements on the projects' webhook secrets."""

from dataclasses import asdict

from sqlalchemy import select, update

from app.db.engine import Connection
from app.db.inserts import insert
from app.db.schema import webhook_secrets as secrets
from app.domain.webhook import WebhookSecret


def get(connection: Connection, project: str) -> WebhookSecret | None:
    """Read a project's secret, if it has one by now."""
    row = connection.execute(select(secrets).where(secrets.c.project == project)).one_or_none()
    return WebhookSecret(**row._mapping) if row else None  # noqa: SLF001 -- SQLAlchemy's public name for it


def put_if_absent(connection: Connection, secret: WebhookSecret) -> WebhookSecret:
    """Write a project's first secret unless somebody did so before; returns what holds."""
    connection.execute(insert(connection, secrets).values(**asdict(secret)).on_conflict_do_nothing())
    row = connection.execute(select(secrets).where(secrets.c.project == secret.project)).one()
    return WebhookSecret(**row._mapping)  # noqa: SLF001 -- as above


def replace(connection: Connection, old: WebhookSecret, new: WebhookSecret) -> None:
    """Write a rotated secret, unless the old one does not hold any more."""
    holds = (secrets.c.project == old.project) & (secrets.c.secret == old.secret)
    connection.execute(update(secrets).where(holds).values(**asdict(new)))
