"""SQL statements for projects' webhook secrets."""

from dataclasses import asdict

from sqlalchemy import select, update

from app.db.engine import Connection
from app.db.rows import insert, read_one
from app.db.schema import webhook_secrets as secrets
from app.domain.webhook import WebhookSecret


def get(connection: Connection, project: str) -> WebhookSecret | None:
    """Read a project's secret, if it has one."""
    return read_one(connection, WebhookSecret, select(secrets).where(secrets.c.project == project))


def put_if_absent(connection: Connection, secret: WebhookSecret) -> WebhookSecret:
    """Write a secret if absent; return the one in effect."""
    connection.execute(insert(connection, secrets).values(**asdict(secret)).on_conflict_do_nothing())
    return get(connection, secret.project) or secret


def replace(connection: Connection, old: WebhookSecret, new: WebhookSecret) -> None:
    """Replace a secret if it is still `old`."""
    is_old = (secrets.c.project == old.project) & (secrets.c.secret == old.secret)
    connection.execute(update(secrets).where(is_old).values(**asdict(new)))
