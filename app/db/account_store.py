"""The upstream account's state, one row shared by all replicas."""

from sqlalchemy import select, update

from app.db.engine import Connection
from app.db.schema import account
from app.domain.account import Account, AccountState
from app.domain.verdict import ErrorCode, TaskError

_GET = select(account).where(account.c.id == 1)


def get(connection: Connection, *, lock: bool = False) -> Account:
    """Read the account's state.

    With `lock`, it stays locked until the transaction ends.
    """
    row = connection.execute(_GET.with_for_update() if lock else _GET).one()
    error = TaskError(ErrorCode(row.error_code), row.error_message, row.error_upstream_code) if row.error_code else None
    return Account(AccountState(row.state), error, row.until, row.pauses)


def save(connection: Connection, state: Account) -> None:
    """Write the account's state."""
    error = state.error
    changed = update(account).values(
        state=state.state,
        error_code=error and error.code,
        error_message=error and error.message,
        error_upstream_code=error and error.upstream_code,
        until=state.until,
        pauses=state.failures,
    )
    connection.execute(changed.where(account.c.id == 1))


def cap(connection: Connection, now: int) -> None:
    """End the wait for the next probe."""
    connection.execute(update(account).where(account.c.until > now).values(until=now))
