"""Statements on API keys. Only their hashes are stored."""

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.db.engine import Connection
from app.db.schema import api_keys
from app.domain.key import ApiKey


async def add(connection: Connection, key: ApiKey, key_hash: str) -> bool:
    """Insert a key; False if there is one with this hash, perhaps made this very moment by another process."""
    row = {"id": key.id, "project": key.project, "name": key.name, "hash": key_hash, "created_at": key.created_at}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    result = await connection.execute(dialect.insert(api_keys).values(**row).on_conflict_do_nothing())
    return result.rowcount == 1


async def find(connection: Connection, key_hash: str) -> ApiKey | None:
    """Find a key by its hash, revoked or not."""
    row = (await connection.execute(select(api_keys).where(api_keys.c.hash == key_hash))).one_or_none()
    return ApiKey(row.id, row.project, row.name, row.created_at, row.revoked_at) if row else None


async def every(connection: Connection) -> list[ApiKey]:
    """List all keys, oldest first."""
    rows = await connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
    return [ApiKey(r.id, r.project, r.name, r.created_at, r.revoked_at) for r in rows]


async def exist(connection: Connection) -> bool:
    """Whether any key ever existed."""
    return bool((await connection.execute(select(func.count()).select_from(api_keys))).scalar_one())


async def revoke(connection: Connection, key_id: str, now: int) -> bool:
    """Revoke a key; False if there is none with this id."""
    not_earlier = func.coalesce(api_keys.c.revoked_at, now)
    result = await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=not_earlier))
    return result.rowcount == 1
