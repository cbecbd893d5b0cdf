"""One transaction, on either database."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine

from app.db.engine.errors import is_unreachable

T = TypeVar("T")
Work = Callable[[Connection], T]
"""The work of one transaction: a plain function, so that it can only wait for its connection."""


def transact(engine: Engine, work: Work[T]) -> T:
    """Run work and commit it; roll back on an exception."""
    with engine.connect() as connection:
        try:
            result = work(connection)
            connection.commit()
        except BaseException as error:
            # Without a reply, a `BEGIN` or `COMMIT` may have run, so the connection's state is unknown. Asking an
            # unresponsive server to roll back would take just as long again.
            if not isinstance(error, Exception) or is_unreachable(error):
                connection.invalidate()
            raise
        return result
