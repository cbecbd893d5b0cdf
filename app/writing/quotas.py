"""Charges tasks to quotas in the transaction that creates them."""

from collections.abc import Mapping, Sequence

from app.db import quota_store
from app.domain.quota import Quota
from app.errors import GatewayError
from app.writing.unit_of_work import UnitOfWork


def charge(unit: UnitOfWork, wanted: Mapping[str, Sequence[Quota]]) -> dict[str, GatewayError]:
    """Charge tasks to quotas; returns an error per rejected task.

    `wanted` is in order of arrival. A task is charged to all of its quotas or to none.
    """
    quotas = {quota.name: quota for of_task in wanted.values() for quota in of_task}
    before = quota_store.lock(unit.connection, list(quotas.values()))
    used = dict(before)
    refused: dict[str, GatewayError] = {}
    for task_id, of_task in wanted.items():
        full = next((quota for quota in of_task if used[quota.name] >= quota.limit), None)
        if full is not None:
            refused[task_id] = full.refusal(unit.now)
            continue
        for quota in of_task:
            used[quota.name] += 1
    changed = {name: count for name, count in used.items() if count != before[name]}
    if changed:
        quota_store.save(unit.connection, changed)
    return refused
