"""SQL statements for quota usage and daily project budgets."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Integer, bindparam, delete, func, select, update

from app.db.engine import Connection
from app.db.rows import insert
from app.db.schema import project_budgets as budgets
from app.db.schema import quota_counts as counts
from app.db.schema import tasks
from app.domain.quota import Quota
from app.domain.task import id_at

_USED = select(counts.c.name, counts.c.used).where(counts.c.name.in_(bindparam("names", expanding=True)))
# Sorted, so that two transactions never deadlock.
_LOCK = _USED.order_by(counts.c.name).with_for_update()
_SET = update(counts).where(counts.c.name == bindparam("of_name")).values(used=bindparam("now_used", type_=Integer))


def lock(connection: Connection, quotas: Sequence[Quota]) -> dict[str, int]:
    """Lock quotas and read their usage by name.

    The locks last until the transaction ends.
    """
    names = sorted(quota.name for quota in quotas)
    found = _locked(connection, names)
    missing = [quota for quota in sorted(quotas, key=lambda quota: quota.name) if quota.name not in found]
    if not missing:
        return found
    rows = [
        {"name": quota.name, "used": _already_used(connection, quota), "kept_until": quota.kept_until}
        for quota in missing
    ]
    connection.execute(insert(connection, counts).on_conflict_do_nothing(), rows)
    return _locked(connection, names)


def save(connection: Connection, counted: Mapping[str, int]) -> None:
    """Write the usage of locked quotas."""
    connection.execute(_SET, [{"of_name": name, "now_used": count} for name, count in counted.items()])


def used(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Read quota usage by name, omitting quotas without a count."""
    return {row.name: row.used for row in connection.execute(_USED, {"names": list(names)})}


def count_tasks_since(connection: Connection, project: str, since: int) -> int:
    """Count a project's tasks created since a time (ms).

    Deleted tasks don't count.
    """
    created_since = (tasks.c.project == project) & (tasks.c.id >= id_at(since))
    return int(connection.execute(select(func.count()).select_from(tasks).where(created_since)).scalar_one())


def sweep(connection: Connection, *, before: int, limit: int) -> int:
    """Delete up to `limit` expired counts; return how many."""
    old = select(counts.c.name).where(counts.c.kept_until <= before).limit(limit)
    return connection.execute(delete(counts).where(counts.c.name.in_(old))).rowcount


def daily_budgets(connection: Connection) -> dict[str, int]:
    """Read daily budgets, in tasks, by project."""
    return {row.project: row.daily_tasks for row in connection.execute(select(budgets))}


def set_daily_budget(connection: Connection, project: str, daily_tasks: int) -> None:
    """Set a project's daily budget."""
    statement = insert(connection, budgets).values(project=project, daily_tasks=daily_tasks)
    changed = statement.on_conflict_do_update(index_elements=[budgets.c.project], set_={"daily_tasks": daily_tasks})
    connection.execute(changed)


def drop_daily_budget(connection: Connection, project: str) -> None:
    """Delete a project's daily budget."""
    connection.execute(delete(budgets).where(budgets.c.project == project))


def remove(connection: Connection, name: str) -> None:
    """Delete a quota's count."""
    connection.execute(delete(counts).where(counts.c.name == name))


def _locked(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    return {row.name: row.used for row in connection.execute(_LOCK, {"names": list(names)})}


def _already_used(connection: Connection, quota: Quota) -> int:
    return 0 if quota.project is None else count_tasks_since(connection, quota.project, quota.counts_since)
