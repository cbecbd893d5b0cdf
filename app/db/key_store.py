"""Statements on API keys. Only their hashes are stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Row, bindparam, func, or_, select, update

from app.db.engine import Connection
from app.db.inserts import insert
from app.db.schema import api_keys
from app.domain.key import ApiKey

_FIND = select(api_keys).where(
    or_(
        api_keys.c.hash.in_(bindparam("hashes", expanding=True)),
        api_keys.c.id.in_(bindparam("ids", expanding=True)),
    )
)
_NOTE_USE = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("of_id"),
        # Other replicas may have noted a use a moment ago.
        or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= bindparam("unless_after", type_=BigInteger)),
    )
    .values(last_used_at=bindparam("used_at"))
)


def add(connection: Connection, key: ApiKey, key_hash: str) -> bool:
    """Insert a key; False if there is one with this hash, perhaps made this very moment by another process."""
    row = {"id": key.id, "project": key.project, "name": key.name, "hash": key_hash, "created_at": key.created_at}
    result = connection.execute(insert(connection, api_keys).values(**row).on_conflict_do_nothing())
    return result.rowcount == 1


def find(connection: Connection, *, hashes: Sequence[str], ids: Sequence[str]) -> list[tuple[ApiKey, str]]:
    """Find keys by their hashes or their ids, revoked or not; each comes with its hash."""
    rows = connection.execute(_FIND, {"hashes": list(hashes), "ids": list(ids)})
    return [(_key(row), row.hash) for row in rows]


def list_all(connection: Connection) -> list[ApiKey]:
    """List all keys, oldest first."""
    rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
    return [_key(row) for row in rows]


def any_exist(connection: Connection) -> bool:
    """Whether any key ever existed."""
    return bool(connection.execute(select(func.count()).select_from(api_keys)).scalar_one())


def revoke(connection: Connection, key_id: str, now: int) -> bool:
    """Revoke a key; False if there is none with this id."""
    not_earlier = func.coalesce(api_keys.c.revoked_at, now)
    result = connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=not_earlier))
    return result.rowcount == 1


def note_uses(connection: Connection, uses: Mapping[str, int], *, apart: int) -> None:
    """Write when keys (by id) were last used, where what is written is at least `apart` milliseconds older."""
    values = [{"of_id": key_id, "used_at": at, "unless_after": at - apart} for key_id, at in sorted(uses.items())]
    connection.execute(_NOTE_USE, values)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(row.id, row.project, row.name, row.created_at, row.revoked_at, row.last_used_at)
