"""The keys in use: looked up once in a while for all who use them, and never trusted for longer than a moment."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from app.clock import Clock
from app.db import keys as key_rows
from app.db.engine import Database
from app.domain.key import hash_secret
from app.services.grant import KeyGrant
from app.services.writer import Writer
from app.writing.batch_loader import BatchLoader
from app.writing.unit_of_work import UnitOfWork

# Together with the pause between two looks less than the second within which a revocation has to take effect.
_FRESH_SECONDS = 0.8
LOOK_SECONDS = 0.4
_KEPT_FRESH_SECONDS = 5.0
_KEPT_SECONDS = 300.0
UNKNOWN_REMEMBERED = 4_096
_AT_ONCE = 256
_NOTED_APART = 60_000
_NOTING_SECONDS = 0.2


class Keyring:
    """Looks keys up by their secrets or ids.

    A key in use is read again every so often by `look`, and by a request where that has come too late: what was read
    more than `_FRESH_SECONDS` ago lets nobody in. So a revocation takes effect within a second in every process,
    and ends the requests that are open. While no key is used, nothing is read. `monotonic` tells seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._monotonic = monotonic
        self._grants: dict[str, KeyGrant] = {}
        """Of the keys that were asked for lately: each by its hash and by its id."""
        self._unknown: dict[str, float] = {}
        """What no key has as hash or id and when that was read, oldest first: strangers decide how many there are."""
        self._loader = BatchLoader("keyring", self._read)
        self._noting: asyncio.Task[None] | None = None

    async def by_secret(self, secret: str) -> KeyGrant | None:
        """Find the key with this secret and note that it was used; None for none or a revoked one."""
        grant = await self._find(hash_secret(secret))
        if grant is not None:
            grant.used_at = self._clock.now()
        return grant

    async def by_id(self, key_id: str) -> KeyGrant | None:
        """Find a key by its id; None for none or a revoked one. Both raise `ServiceUnavailable`."""
        return await self._find(key_id)

    async def look(self) -> int:
        """Read again what is in use, drop what no longer is, and note when keys were used; to be called by a loop."""
        now = self._monotonic()
        grants = {grant.key.id: grant for grant in self._grants.values()}
        in_use = [
            key_id
            for key_id, grant in grants.items()
            if not grant.is_over and (grant.is_followed or now - grant.asked_at < _KEPT_FRESH_SECONDS)
        ]
        for start in range(0, len(in_use), _AT_ONCE):
            await self._read(in_use[start : start + _AT_ONCE])
        await self._begin_to_note_uses(list(grants.values()))
        for grant in grants.values():
            if not grant.is_followed and now - grant.asked_at > _KEPT_SECONDS:
                del self._grants[grant.key.id], self._grants[grant.digest]
        return 0

    async def _find(self, name: str) -> KeyGrant | None:
        now = self._monotonic()
        grant = self._grants.get(name)
        if grant is not None:
            # Before anything is awaited: `look` drops what nobody asks for.
            grant.asked_at = now
        if grant is None or now - grant.read_at > _FRESH_SECONDS:
            if now - self._unknown.get(name, -math.inf) < _FRESH_SECONDS:
                return None
            grant = await self._loader.load(name)
        return None if grant is None or grant.is_over else grant

    async def _read(self, names: Sequence[str]) -> dict[str, KeyGrant]:
        began = self._monotonic()
        # A name is a hash or an id, and none is both.
        found = await self._database.read(lambda connection: key_rows.find(connection, hashes=names, ids=names))
        known = set()
        for key, digest in found:
            grant = self._grants.get(key.id)
            if grant is None:
                grant = self._grants[key.id] = self._grants[digest] = KeyGrant(key, digest)
                grant.asked_at = began
            grant.read_at = began
            if key.revoked_at is not None:
                grant.end()
            known |= {key.id, digest}
        for name in set(names) - known:
            if name in self._grants:
                # Its row was taken away by hand.
                self._grants[name].read_at = began
                self._grants[name].end()
                continue
            self._unknown.pop(name, None)
            self._unknown[name] = began
            if len(self._unknown) > UNKNOWN_REMEMBERED:
                del self._unknown[next(iter(self._unknown))]
        return {name: self._grants[name] for name in names if name in self._grants}

    async def _begin_to_note_uses(self, grants: Sequence[KeyGrant]) -> None:
        """Note uses, but hold up no look for long: a writer that waits for a lock must not keep revoked keys alive."""
        if self._noting is None:
            self._noting = asyncio.create_task(self._note_uses(grants), name="key uses")
        await asyncio.wait([self._noting], timeout=_NOTING_SECONDS)
        if self._noting.done():
            noting, self._noting = self._noting, None
            await noting

    async def _note_uses(self, grants: Sequence[KeyGrant]) -> None:
        """Write when keys were last used, each at most once a minute."""
        due = [grant for grant in grants if grant.used_at - grant.noted_at >= _NOTED_APART]
        if not due:
            return
        uses = {grant.key.id: grant.used_at for grant in due}

        def work(unit: UnitOfWork) -> None:
            key_rows.note_uses(unit.connection, uses, apart=_NOTED_APART)

        await self._writer.run(work)
        for grant in due:
            grant.noted_at = uses[grant.key.id]
