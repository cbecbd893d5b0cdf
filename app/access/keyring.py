"""API keys in use: read together a few times a second, and never trusted for longer than that."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from app.access.credentials import KeyCredential
from app.clock import Clock
from app.db import key_store
from app.db.engine import Database
from app.domain.key import hash_secret
from app.writing.batch_loader import BatchLoader
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

# Together with the pause between two reads less than the second within which a revocation has to take effect.
_FRESH_SECONDS = 0.8
LOOK_SECONDS = 0.4
_KEPT_FRESH_SECONDS = 5.0
_KEPT_SECONDS = 300.0
UNKNOWN_REMEMBERED = 4_096
_KEYS_PER_READ = 256
_USE_PAUSE_MS = 60_000
_NOTING_SECONDS = 0.2


class Keyring:
    """Finds keys by secret or id.

    `look` reads the keys in use again periodically; a request does so itself if that is late, because a key read more
    than `_FRESH_SECONDS` ago admits no request. So a revocation takes effect within a second in every process, and ends
    open requests. While no key is used, nothing is read. `monotonic` returns seconds.
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
        self._grants: dict[str, KeyCredential] = {}
        """Of recently used keys, each under its hash and its id."""
        self._unknown: dict[str, float] = {}
        """Hashes and ids that no key has, and when that was read, oldest first; limited, as anyone can add to it."""
        self._loader = BatchLoader("keyring", self._read)
        self._noting: asyncio.Task[None] | None = None

    async def by_secret(self, secret: str) -> KeyCredential | None:
        """Find the key with this secret and note its use; None if there is none or it is revoked."""
        credential = await self._find(hash_secret(secret))
        if credential is not None:
            credential.used_at = self._clock.now()
        return credential

    async def by_id(self, key_id: str) -> KeyCredential | None:
        """Find a key by its id; None if there is none or it is revoked. Both raise `ServiceUnavailable`."""
        return await self._find(key_id)

    async def look(self) -> int:
        """Read the keys in use again, drop the others, and write when keys were used; called by a loop."""
        now = self._monotonic()
        grants = {credential.key.id: credential for credential in self._grants.values()}
        in_use = [
            key_id
            for key_id, credential in grants.items()
            if not credential.is_over and (credential.is_followed or now - credential.asked_at < _KEPT_FRESH_SECONDS)
        ]
        for start in range(0, len(in_use), _KEYS_PER_READ):
            await self._read(in_use[start : start + _KEYS_PER_READ])
        await self._begin_to_note_uses(list(grants.values()))
        for credential in grants.values():
            if not credential.is_followed and now - credential.asked_at > _KEPT_SECONDS:
                del self._grants[credential.key.id], self._grants[credential.digest]
        return 0

    async def _find(self, name: str) -> KeyCredential | None:
        now = self._monotonic()
        credential = self._grants.get(name)
        if credential is not None:
            # Before anything is awaited: `look` drops unused keys.
            credential.asked_at = now
        if credential is None or now - credential.read_at > _FRESH_SECONDS:
            if now - self._unknown.get(name, -math.inf) < _FRESH_SECONDS:
                return None
            credential = await self._loader.load(name)
        return None if credential is None or credential.is_over else credential

    async def _read(self, names: Sequence[str]) -> dict[str, KeyCredential]:
        began = self._monotonic()
        # A name is a hash or an id, and none is both.
        found = await self._database.read(lambda connection: key_store.find(connection, hashes=names, ids=names))
        known = set()
        for key, digest in found:
            credential = self._grants.get(key.id)
            if credential is None:
                credential = self._grants[key.id] = self._grants[digest] = KeyCredential(key, digest)
                credential.asked_at = began
            credential.read_at = began
            if key.revoked_at is not None:
                credential.end()
            known |= {key.id, digest}
        for name in set(names) - known:
            if name in self._grants:
                # Its row was deleted by hand.
                self._grants[name].read_at = began
                self._grants[name].end()
                continue
            self._unknown.pop(name, None)
            self._unknown[name] = began
            if len(self._unknown) > UNKNOWN_REMEMBERED:
                del self._unknown[next(iter(self._unknown))]
        return {name: self._grants[name] for name in names if name in self._grants}

    async def _begin_to_note_uses(self, grants: Sequence[KeyCredential]) -> None:
        """Write uses without delaying reads: a writer that waits for a lock must not keep revoked keys valid."""
        if self._noting is None:
            self._noting = asyncio.create_task(self._note_uses(grants), name="key uses")
        await asyncio.wait([self._noting], timeout=_NOTING_SECONDS)
        if self._noting.done():
            noting, self._noting = self._noting, None
            await noting

    async def _note_uses(self, grants: Sequence[KeyCredential]) -> None:
        """Write when keys were last used, each at most once a minute."""
        due = [credential for credential in grants if credential.used_at - credential.noted_at >= _USE_PAUSE_MS]
        if not due:
            return
        uses = {credential.key.id: credential.used_at for credential in due}

        def work(unit: UnitOfWork) -> None:
            key_store.note_uses(unit.connection, uses, apart=_USE_PAUSE_MS)

        await self._writer.run(work)
        for credential in due:
            credential.noted_at = uses[credential.key.id]
