"""Statements that write what a batch of task changes comes to."""

from collections.abc import Sequence
from dataclasses import dataclass

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
_INSERT_TASKS = sql.RowWriter("insert_tasks")
_UPDATE_TASKS = sql.RowWriter("update_tasks")
_INSERT_IMAGES = sql.RowWriter("insert_images")
_INSERT_CALLBACKS = sql.RowWriter("insert_callbacks")
_INSERT_DELIVERIES = sql.RowWriter("insert_deliveries")
_INSERT_EVENTS = sql.RowWriter("insert_events")


class _TextCallback(msgspec.Struct):
    task_id: str
    received_at: int
    status: int
    answer: str
    body: str


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
    events: Sequence[TaskEvent] = ()


def write(connection: Connection, batch: Batch) -> None:
    """Write a batch; raises `StaleTask` if a task has another version.

    With events it is the last write of a transaction: until the commit, no other transaction can append events.
    """
    texts, others = _by_kind(batch.callbacks)
    if others:
        connection.execute(insert(callbacks), [asdict(callback) for callback in others])
    write_all = _write_at_once if connection.dialect.name == "postgresql" else _write_one_by_one
    written = write_all(connection, batch, texts)
    if written < len(batch.changed):
        raise StaleTask(f"{len(batch.changed) - written} of {len(batch.changed)} tasks changed under their lock")


def _write_at_once(connection: Connection, batch: Batch, texts: Sequence[_TextCallback]) -> int:
    """Write in one statement, as each is a round trip; returns how many tasks were changed."""
    # Their inputs don't change, and may be long.
    changed = [replace(task, input={}, metadata={}) for task in batch.changed]
    documents = {
        "created": sql.as_json(batch.created),
        "changed": sql.as_json(changed),
        "images": sql.as_json(batch.images),
        "callbacks": sql.as_json(texts),
        "deliveries": sql.as_json(batch.deliveries),
        "events": sql.as_json(batch.events),
        "channel": CHANNEL,
    }
    return int(connection.execute(_WRITE_BATCH(connection), documents).scalar_one())


def _write_one_by_one(connection: Connection, batch: Batch, texts: Sequence[_TextCallback]) -> int:
    _INSERT_TASKS.write(connection, batch.created)
    written = _UPDATE_TASKS.write(connection, batch.changed)
    _INSERT_IMAGES.write(connection, batch.images)
    _INSERT_CALLBACKS.write(connection, texts)
    _INSERT_DELIVERIES.write(connection, batch.deliveries)
    _INSERT_EVENTS.write(connection, batch.events)
    return written


def _by_kind(received: Sequence[ReceivedCallback]) -> tuple[list[_TextCallback], list[ReceivedCallback]]:
    """Split callbacks: those whose bodies are text that fits into JSON, and the others."""
    texts: list[_TextCallback] = []
    others: list[ReceivedCallback] = []
    for one in received:
        try:
            body = one.body.decode()
        except UnicodeDecodeError:
            others.append(one)
            continue
        # PostgreSQL's text has no NUL.
        if "\0" in body:
            others.append(one)
        else:
            texts.append(_TextCallback(one.task_id, one.received_at, one.status, one.answer, body))
    return texts, others
