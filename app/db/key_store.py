"""SQL statements for API keys, which are stored as hashes."""

from collections.abc import Mapping, Sequence

from sqlalchemy import BigInteger, bindparam, exists, func, or_, select, update

from app.db.engine import Connection
from app.db.rows import as_struct, insert, read_all
from app.db.schema import api_keys
from app.domain.key import ApiKey

_NOTE_USE = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("of_id"),
        # Another replica may have just recorded a use.
        or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= bindparam("unless_after", type_=BigInteger)),
    )
    .values(last_used_at=bindparam("used_at"))
)


def add(connection: Connection, key: ApiKey, key_hash: str) -> bool:
    """Insert a key; return False if its hash exists."""
    row = {"id": key.id, "project": key.project, "name": key.name, "hash": key_hash, "created_at": key.created_at}
    result = connection.execute(insert(connection, api_keys).values(**row).on_conflict_do_nothing())
    return result.rowcount == 1


def find(connection: Connection, *, hashes: Sequence[str], ids: Sequence[str]) -> list[tuple[ApiKey, str]]:
    """Find keys by hash or id, including revoked ones.

    Returns pairs of key and hash.
    """
    statement = select(api_keys).where(or_(api_keys.c.hash.in_(hashes), api_keys.c.id.in_(ids)))
    return [(as_struct(row, ApiKey), row.hash) for row in connection.execute(statement)]


def list_all(connection: Connection) -> list[ApiKey]:
    """List all keys, oldest first."""
    return read_all(connection, ApiKey, select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))


def any_exist(connection: Connection) -> bool:
    """Whether any key exists, revoked or not."""
    return bool(connection.execute(select(exists(api_keys.c.id))).scalar_one())


def any_active(connection: Connection) -> bool:
    """Whether any key exists that was not revoked."""
    return bool(connection.execute(select(exists(api_keys.c.id).where(api_keys.c.revoked_at.is_(None)))).scalar_one())


def revoke(connection: Connection, key_id: str, now: int) -> bool:
    """Revoke a key; return False if it doesn't exist."""
    revoked_at = func.coalesce(api_keys.c.revoked_at, now)
    result = connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=revoked_at))
    return result.rowcount == 1


def note_uses(connection: Connection, uses: Mapping[str, int], *, apart: int) -> None:
    """Record when keys (by id) were last used.

    Skips uses less than `apart` ms after the recorded one.
    """
    values = [{"of_id": key_id, "used_at": at, "unless_after": at - apart} for key_id, at in sorted(uses.items())]
    connection.execute(_NOTE_USE, values)
