"""Statements on facts that all processes sharing the database agree on, and the database's own clock."""

from sqlalchemy import select, text, update

from app.db.engine import Connection
from app.db.inserts import insert
from app.db.schema import facts


def get(connection: Connection, name: str) -> str | None:
    """Read a fact."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def put_if_absent(connection: Connection, name: str, value: str) -> str:
    """Write a fact unless somebody did so before; returns what holds."""
    statement = insert(connection, facts).values(name=name, value=value).on_conflict_do_nothing()
    connection.execute(statement)
    return str(connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one())


def put(connection: Connection, name: str, value: str) -> None:
    """Write a fact, whatever it was before."""
    new = insert(connection, facts).values(name=name, value=value)
    connection.execute(new.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": new.excluded.value}))


def replace(connection: Connection, name: str, old: str, new: str) -> None:
    """Write a fact, unless it is not what it was any more."""
    holds = (facts.c.name == name) & (facts.c.value == old)
    connection.execute(update(facts).where(holds).values(value=new))


def revision(connection: Connection) -> str | None:
    """Read to which migration the database has come."""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def shared_now(connection: Connection, local_now: int) -> int:
    """Read a clock that all replicas share, in milliseconds: the PostgreSQL server's, or this process's own."""
    if connection.dialect.name != "postgresql":
        return local_now
    statement = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    return int(connection.execute(statement).scalar_one())
