"""Deletes tasks with everything that belongs to them."""

from collections.abc import Collection

from app.db import blob_store, image_store, task_store
from app.writing.unit_of_work import UnitOfWork


def remove_tasks(unit: UnitOfWork, task_ids: Collection[str]) -> None:
    """Delete tasks that this transaction has locked; files left without a reference are collected soon."""
    hashes = image_store.hashes_of(unit.connection, task_ids)
    blob_store.release(unit.connection, hashes, now=unit.now)
    task_store.remove(unit.connection, task_ids)
