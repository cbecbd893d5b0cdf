"""One transaction: the same plain function on both kinds of database."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine

from app.db.engine.errors import is_unreachable

T = TypeVar("T")
Work = Callable[[Connection], T]
"""What is done in one transaction: a plain function, so that it waits for nothing but its connection."""


def transact(engine: Engine, work: Work[T]) -> T:
    """Run work in a transaction and commit it; rolls back on an exception."""
    with engine.connect() as connection:
        try:
            result = work(connection)
            connection.commit()
        except BaseException as error:
            # A `BEGIN` or `COMMIT` without a reply may have been executed: the connection's state is unknown.
            # And a server that doesn't reply isn't asked to roll back, which would take as long again.
            if not isinstance(error, Exception) or is_unreachable(error):
                connection.invalidate()
            raise
        return result
