"""Statements that write what a batch of task changes comes to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import asdict, replace
from sqlalchemy import insert

from app.db import sql
from app.db.engine import Connection
from app.db.schema import callbacks
from app.domain.callback import ReceivedCallback
from app.domain.delivery import Delivery
from app.domain.event import TaskEvent
from app.domain.image import Image
from app.domain.task import Task

CHANNEL = "nanobanana_events"
"""Where PostgreSQL notifies all processes of a commit with events."""

_WRITE_BATCH = sql.load("write_batch")
_INSERT_TASKS = sql.load("insert_tasks")
_UPDATE_TASKS = sql.load("update_tasks")
_INSERT_IMAGES = sql.load("insert_images")
_INSERT_CALLBACKS = sql.load("insert_callbacks")
_INSERT_DELIVERIES = sql.load("insert_deliveries")
_INSERT_EVENTS = sql.load("insert_events")


class StaleTask(Exception):
    """A task was not as it had been read, although its row was locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows to write, of all kinds.

    `changed` tasks are written by compare-and-set: each must still have the version it was read with.
    """

    created: Sequence[Task] = ()
    changed: Sequence[Task] = ()
    images: Sequence[Image] = ()
    callbacks: Sequence[ReceivedCallback] = ()
    deliveries: Sequence[Delivery] = ()
    events: Sequence[TaskEvent] = field(default=())


def write(connection: Connection, batch: Batch) -> None:
    """Write a batch; raises `StaleTask` if a task has another version.

    With events it is the last write of a transaction: until the commit, no other transaction can append events.
    """
    texts, others = _by_kind(batch.callbacks)
    if others:
        connection.execute(insert(callbacks), [asdict(callback) for callback in others])
    # Their inputs don't change, and may be long.
    changed = [replace(task, input={}, metadata={}) for task in batch.changed]
    if connection.dialect.name == "postgresql":
        written = _write_at_once(connection, batch, changed, texts)
    else:
        written = _write_one_by_one(connection, batch, changed, texts)
    if written < len(changed):
        raise StaleTask(f"{len(changed) - written} of {len(changed)} tasks changed under their lock")


def _write_at_once(
    connection: Connection, batch: Batch, changed: Sequence[Task], texts: Sequence[dict[str, Any]]
) -> int:
    """Write in one statement, as each is a round trip."""
    documents = {
        "created": _json(batch.created),
        "changed": _json(changed),
        "images": _json(batch.images),
        "callbacks": _json(texts),
        "deliveries": _json(batch.deliveries),
        "events": _json(batch.events),
        "channel": CHANNEL,
    }
    return int(connection.execute(_WRITE_BATCH(connection), documents).scalar_one())


def _write_one_by_one(
    connection: Connection, batch: Batch, changed: Sequence[Task], texts: Sequence[dict[str, Any]]
) -> int:
    written = 0
    if batch.created:
        connection.execute(_INSERT_TASKS(connection), {"rows": _json(batch.created)})
    if changed:
        written = connection.execute(_UPDATE_TASKS(connection), {"rows": _json(changed)}).rowcount
    if batch.images:
        connection.execute(_INSERT_IMAGES(connection), {"rows": _json(batch.images)})
    if texts:
        connection.execute(_INSERT_CALLBACKS(connection), {"rows": _json(texts)})
    if batch.deliveries:
        connection.execute(_INSERT_DELIVERIES(connection), {"rows": _json(batch.deliveries)})
    if batch.events:
        connection.execute(_INSERT_EVENTS(connection), {"rows": _json(batch.events)})
    return written


def _by_kind(received: Sequence[ReceivedCallback]) -> tuple[list[dict[str, Any]], list[ReceivedCallback]]:
    """Split callbacks: those whose bodies are text that fits into JSON columns, and the others."""
    texts: list[dict[str, Any]] = []
    others: list[ReceivedCallback] = []
    for callback in received:
        try:
            body = callback.body.decode()
        except UnicodeDecodeError:
            others.append(callback)
            continue
        # PostgreSQL's text has no NUL.
        if "\0" in body:
            others.append(callback)
        else:
            texts.append(asdict(callback) | {"body": body})
    return texts, others


def _json(rows: Sequence[Any]) -> str:
    return msgspec.json.encode(rows).decode()
