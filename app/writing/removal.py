"""Deletes tasks with everything that belongs to them."""

from collections.abc import Collection

from app.db import blobs as blob_rows
from app.db import images as image_rows
from app.db import tasks as task_rows
from app.writing.unit_of_work import UnitOfWork


def remove_tasks(unit: UnitOfWork, task_ids: Collection[str]) -> None:
    """Delete tasks that this transaction has locked; files left without a reference are collected soon."""
    hashes = image_rows.hashes_of(unit.connection, task_ids)
    blob_rows.release(unit.connection, hashes, now=unit.now)
    task_rows.remove(unit.connection, task_ids)
