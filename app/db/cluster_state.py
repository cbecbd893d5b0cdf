"""Values and a clock shared by all processes."""

from sqlalchemy import inspect, select, text, update

from app.db.engine import Connection
from app.db.rows import insert
from app.db.schema import facts


def put_if_absent(connection: Connection, name: str, value: str) -> str:
    """Write a value if absent; return the one in effect."""
    connection.execute(insert(connection, facts).values(name=name, value=value).on_conflict_do_nothing())
    return str(connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one())


def exists(connection: Connection) -> bool:
    """Whether the first migration was applied."""
    return inspect(connection).has_table(facts.name)


def get(connection: Connection, name: str) -> str | None:
    """Read a value; None if there is none."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def put(connection: Connection, name: str, value: str) -> None:
    """Write a value, replacing any other."""
    new = insert(connection, facts).values(name=name, value=value)
    connection.execute(new.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": new.excluded.value}))


def replace(connection: Connection, name: str, old: str, new: str) -> None:
    """Write a value if the present one is `old`."""
    connection.execute(update(facts).where(facts.c.name == name, facts.c.value == old).values(value=new))


def revision(connection: Connection) -> str | None:
    """Read the revision of the newest migration that was applied."""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def shared_now(connection: Connection, local_now: int) -> int:
    """Read the clock that all replicas share, in milliseconds.

    PostgreSQL's clock, or this process's on SQLite. `Database.clock` may differ between replicas by a round
    trip; rate limits must be exact.
    """
    if connection.dialect.name != "postgresql":
        return local_now
    statement = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    return int(connection.execute(statement).scalar_one())
