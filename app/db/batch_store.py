"""Writes the rows of a batch of task changes."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import asdict, replace
from sqlalchemy import insert

from app.db import sql
from app.db.engine import Connection
from app.db.engine.json import dumps
from app.db.schema import callbacks
from app.domain.callback import ReceivedCallback
from app.domain.delivery import Delivery
from app.domain.event import TaskEvent
from app.domain.image import Image
from app.domain.task import Task

CHANNEL = "nanobanana_events"
"""The PostgreSQL channel that announces commits with events to all processes."""

_WRITE_BATCH = sql.load("write_batch")
_INSERT_TASKS = sql.RowWriter("insert_tasks")
_UPDATE_TASKS = sql.RowWriter("update_tasks")
_INSERT_IMAGES = sql.RowWriter("insert_images")
_INSERT_DELIVERIES = sql.RowWriter("insert_deliveries")
_INSERT_EVENTS = sql.RowWriter("insert_events")


class StaleTask(Exception):
    """A task changed although its row was locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows to write together.

    `changed` tasks are written by compare-and-set: each must still have the version it was read with.
    """

    created: Sequence[Task] = ()
    changed: Sequence[Task] = ()
    images: Sequence[Image] = ()
    callbacks: Sequence[ReceivedCallback] = ()
    deliveries: Sequence[Delivery] = ()
    events: Sequence[TaskEvent] = ()


def write(connection: Connection, batch: Batch) -> None:
    """Write a batch.

    Raises `StaleTask` if a task has another version. With events, this must be the transaction's last write: no other
    transaction can append events until the commit.
    """
    write_all = _write_at_once if connection.dialect.name == "postgresql" else _write_one_by_one
    written = write_all(connection, batch)
    if written < len(batch.changed):
        raise StaleTask(f"{len(batch.changed) - written} of {len(batch.changed)} tasks changed while locked")


def _write_at_once(connection: Connection, batch: Batch) -> int:
    """Write in one round trip; return how many tasks changed."""
    # Inputs never change and can be long.
    changed = [replace(task, input={}, metadata={}) for task in batch.changed]
    documents = {
        "created": dumps(batch.created),
        "changed": dumps(changed),
        "images": dumps(batch.images),
        "callbacks": dumps(batch.callbacks),
        "deliveries": dumps(batch.deliveries),
        "events": dumps(batch.events),
        "channel": CHANNEL,
    }
    return int(connection.execute(_WRITE_BATCH(connection), documents).scalar_one())


def _write_one_by_one(connection: Connection, batch: Batch) -> int:
    _INSERT_TASKS.write(connection, batch.created)
    written = _UPDATE_TASKS.write(connection, batch.changed)
    _INSERT_IMAGES.write(connection, batch.images)
    if batch.callbacks:
        # Not as JSON, which encodes bytes as base64: SQLite can't decode it.
        connection.execute(insert(callbacks), [asdict(callback) for callback in batch.callbacks])
    _INSERT_DELIVERIES.write(connection, batch.deliveries)
    _INSERT_EVENTS.write(connection, batch.events)
    return written
