"""Charges quotas in the transaction that creates tasks and uploads."""

from collections.abc import Mapping, Sequence

from app.db import quota_store
from app.domain.quota import Quota
from app.errors import GatewayError
from app.writing.unit_of_work import UnitOfWork


def charge(unit: UnitOfWork, wanted: Mapping[str, Sequence[Quota]]) -> dict[str, GatewayError]:
    """Charge tasks or uploads; returns the errors of rejected ones.

    `wanted` has their quotas by ID, in order of arrival. Each is charged to all of its quotas or to none.
    """
    quotas = {quota.name: quota for of_one in wanted.values() for quota in of_one}
    before = quota_store.lock(unit.connection, list(quotas.values()))
    used = dict(before)
    refused: dict[str, GatewayError] = {}
    for charged_id, of_one in wanted.items():
        full = next((quota for quota in of_one if quota.is_exceeded(used[quota.name])), None)
        if full is not None:
            refused[charged_id] = full.refusal(unit.now)
            continue
        for quota in of_one:
            used[quota.name] += quota.amount
    changed = {name: count for name, count in used.items() if count != before[name]}
    if changed:
        quota_store.save(unit.connection, changed)
    return refused
