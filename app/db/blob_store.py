"""Statements on the files in the store.

Whoever adds or takes away what refers to a blob locks its row first, so that nobody deletes a file that somebody else
has just begun to refer to: with the row locked, whether something refers to it holds until the transaction ends.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Integer,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from app.db.engine import Connection
from app.db.inserts import insert
from app.db.schema import blobs, images, uploads

REFERRING = (images.c.hash, uploads.c.hash)
"""The columns by which rows refer to blobs."""


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the store; what it shows is None for one that was found there without a row."""

    hash: str
    content_type: str | None
    bytes: int
    width: int | None
    height: int | None


_NOW = bindparam("now", type_=BigInteger)
_HASHES: BindParameter[Any] = bindparam("hashes", expanding=True)
_LOCK = select(blobs.c.hash, blobs.c.is_going).where(blobs.c.hash.in_(_HASHES)).order_by(blobs.c.hash).with_for_update()
_KNOWN = select(blobs.c.hash).where(blobs.c.hash.in_(_HASHES))
# Locked once more, by changing it: whoever waits for the lock then sees that something happened.
_RELEASE = (
    update(blobs)
    .where(blobs.c.hash.in_(_HASHES))
    .values(check_at=func.coalesce(blobs.c.check_at + literal_column("1"), _NOW))
)
_DUE = (
    select(blobs.c.hash)
    .where(blobs.c.check_at <= _NOW)
    .order_by(blobs.c.check_at)
    .limit(bindparam("at_most", type_=Integer))
    .with_for_update(skip_locked=True)
)
# A statement of its own, begun with the rows locked: one that locks sees other tables as they were before.
_REFERRED_TO = select(blobs.c.hash).where(
    blobs.c.hash.in_(_HASHES), or_(*(exists().where(column == blobs.c.hash) for column in REFERRING))
)
_ANY_DUE = select(blobs.c.hash).where(blobs.c.check_at <= _NOW).limit(1)
_KEEP = update(blobs).where(blobs.c.hash.in_(_HASHES)).values(check_at=None)
_GO = (
    update(blobs)
    .where(blobs.c.hash.in_(_HASHES))
    .values(check_at=bindparam("until", type_=BigInteger), is_going=literal_column("true"))
)
_REMOVE = delete(blobs).where(blobs.c.hash.in_(_HASHES), blobs.c.is_going)


def reserve(connection: Connection, blob: Blob, *, now: int, until: int) -> bool:
    """See that a blob has a row and is not deleted before then; False if its file is being deleted right now."""
    new = insert(connection, blobs).values(
        **msgspec.structs.asdict(blob), created_at=now, check_at=until, is_going=False
    )
    described = {name: new.excluded[name] for name in ("content_type", "bytes", "width", "height")}
    later = case((blobs.c.check_at > until, blobs.c.check_at), else_=until)
    statement = new.on_conflict_do_update(
        index_elements=[blobs.c.hash], set_={**described, "check_at": later}, where=~blobs.c.is_going
    )
    return bool(connection.execute(statement).rowcount)


def adopt(connection: Connection, found: Sequence[Blob], *, now: int) -> None:
    """Give rows to files without one, to be looked at now; those that have one are left as they are."""
    rows = [{**msgspec.structs.asdict(b), "created_at": now, "check_at": now, "is_going": False} for b in found]
    connection.execute(insert(connection, blobs).on_conflict_do_nothing(), rows)


def lock(connection: Connection, sha256: str) -> bool:
    """Lock a blob that is to be referred to; False if it is gone or going."""
    row = connection.execute(_LOCK, {"hashes": [sha256]}).one_or_none()
    return row is not None and not row.is_going


def release(connection: Connection, hashes: Iterable[str], *, now: int) -> None:
    """Lock blobs of which something is about to refer no longer, and have them looked at."""
    wanted = sorted(set(hashes))
    if wanted:
        connection.execute(_LOCK, {"hashes": wanted})
        connection.execute(_RELEASE, {"hashes": wanted, "now": now})


def is_any_due(connection: Connection, *, now: int) -> bool:
    """Tell whether any blob is to be looked at."""
    return connection.execute(_ANY_DUE, {"now": now}).first() is not None


def claim_unreferenced(connection: Connection, *, now: int, until: int, limit: int) -> tuple[int, list[str]]:
    """Look at up to `limit` blobs that are due: those that nothing refers to are going, the caller's until then.

    Returns how many were looked at, and the hashes of those that are going.
    """
    due = [row.hash for row in connection.execute(_DUE, {"now": now, "at_most": limit})]
    if not due:
        return 0, []
    kept = sorted(row.hash for row in connection.execute(_REFERRED_TO, {"hashes": due}))
    going = sorted(set(due).difference(kept))
    if kept:
        connection.execute(_KEEP, {"hashes": kept})
    if going:
        connection.execute(_GO, {"hashes": going, "until": until})
    return len(due), going


def remove(connection: Connection, hashes: Sequence[str]) -> None:
    """Delete the rows of blobs whose files are gone."""
    connection.execute(_REMOVE, {"hashes": list(hashes)})


def missing(connection: Connection, hashes: Iterable[str]) -> set[str]:
    """Tell which of these hashes have no row."""
    wanted = set(hashes)
    return wanted - {row.hash for row in connection.execute(_KNOWN, {"hashes": sorted(wanted)})}
