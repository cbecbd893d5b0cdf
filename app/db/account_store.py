"""Statements on the state of the upstream account, one row that all replicas share."""

from typing import Any

from sqlalchemy import select, update

from app.db.engine import Connection
from app.db.schema import account
from app.domain.account import Account, AccountState
from app.domain.verdict import ErrorCode, TaskError

_IS_THE_ROW = account.c.id == 1
_GET = select(account).where(_IS_THE_ROW)
_LOCK = _GET.with_for_update()


def get(connection: Connection, *, lock: bool = False) -> Account:
    """Read the account's state, and lock it until the transaction ends if asked to."""
    row = connection.execute(_LOCK if lock else _GET).one()
    error = TaskError(ErrorCode(row.error_code), row.error_message, row.error_upstream_code) if row.error_code else None
    return Account(AccountState(row.state), error, row.until, row.pauses, row.probing)


def save(connection: Connection, state: Account) -> None:
    """Write the account's state."""
    values: dict[str, Any] = {
        "state": state.state.value,
        "error_code": state.error.code.value if state.error else None,
        "error_message": state.error.message if state.error else None,
        "error_upstream_code": state.error.upstream_code if state.error else None,
        "until": state.until,
        "pauses": state.pauses,
        "probing": state.probing,
    }
    connection.execute(update(account).where(_IS_THE_ROW).values(**values))
