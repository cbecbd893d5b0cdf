"""API keys in use, refreshed several times per second."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.access.credentials import KeyCredential
from app.clock import Clock
from app.db import key_store
from app.db.engine import Database
from app.domain.key import hash_secret
from app.writing.batch_loader import BatchLoader
from app.writing.writer import Writer

# A revocation must take effect within a second.
_FRESH_SECONDS = 0.8
REFRESH_SECONDS = 0.4
_KEPT_FRESH_SECONDS = 5.0
_KEPT_SECONDS = 300.0
MAX_UNKNOWN = 4_096
_READ_BATCH = 256
_USE_PAUSE_MS = 60_000
_RECORDING_SECONDS = 0.2


@dataclass(eq=False, kw_only=True)
class Keyring:
    """Finds keys by secret or ID.

    A loop calls `refresh` to reread the keys in use. If it is late, requests reread their key themselves, because a key
    read more than `_FRESH_SECONDS` ago admits no request. So a revocation takes effect within a second in every
    process and ends open requests. Nothing is read while no key is in use. `monotonic` returns seconds.
    """

    database: Database
    writer: Writer
    clock: Clock
    monotonic: Callable[[], float] = time.monotonic
    _credentials: dict[str, KeyCredential] = field(default_factory=dict, init=False)
    """Credentials of recently used keys, each by hash and by ID."""
    _unknown: dict[str, float] = field(default_factory=dict, init=False)
    """Unknown hashes and IDs with the time they were read, oldest first. Limited, because anyone can add entries."""
    _recording: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._loader = BatchLoader("keyring", self._read)

    async def by_secret(self, secret: str) -> KeyCredential | None:
        """Find an active key by secret for use; raises `ServiceUnavailable`."""
        credential = await self._find(hash_secret(secret))
        if credential is not None:
            credential.used_at = self.clock.now()
        return credential

    async def by_id(self, key_id: str) -> KeyCredential | None:
        """Find an active key by ID; raises `ServiceUnavailable`."""
        return await self._find(key_id)

    async def refresh(self) -> int:
        """Reread the keys in use and record their use."""
        now = self.monotonic()
        credentials = list({credential.key.id: credential for credential in self._credentials.values()}.values())
        in_use = [
            credential.key.id
            for credential in credentials
            if not credential.is_over
            and (credential.is_followed or now - credential.requested_at < _KEPT_FRESH_SECONDS)
        ]
        for start in range(0, len(in_use), _READ_BATCH):
            await self._read(in_use[start : start + _READ_BATCH])
        await self._start_recording(credentials)
        for credential in credentials:
            if not credential.is_followed and now - credential.requested_at > _KEPT_SECONDS:
                del self._credentials[credential.key.id], self._credentials[credential.digest]
        return 0

    async def _find(self, name: str) -> KeyCredential | None:
        now = self.monotonic()
        credential = self._credentials.get(name)
        if credential is not None:
            # Set before the first await, because `refresh` drops unused keys.
            credential.requested_at = now
        if credential is None or now - credential.read_at > _FRESH_SECONDS:
            if now - self._unknown.get(name, -math.inf) < _FRESH_SECONDS:
                return None
            credential = await self._loader.load(name)
        return None if credential is None or credential.is_over else credential

    async def _read(self, names: Sequence[str]) -> dict[str, KeyCredential]:
        began = self.monotonic()
        # A name is either a hash or an id.
        found = await self.database.read(lambda connection: key_store.find(connection, hashes=names, ids=names))
        known = set()
        for key, digest in found:
            credential = self._credentials.get(key.id)
            if credential is None:
                credential = self._credentials[key.id] = self._credentials[digest] = KeyCredential(key, digest)
                credential.requested_at = began
            credential.read_at = began
            if key.revoked_at is not None:
                credential.end()
            known |= {key.id, digest}
        for name in set(names) - known:
            if name in self._credentials:
                # Its row was deleted manually.
                self._credentials[name].read_at = began
                self._credentials[name].end()
                continue
            self._unknown.pop(name, None)
            self._unknown[name] = began
            if len(self._unknown) > MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
        return {name: self._credentials[name] for name in names if name in self._credentials}

    async def _start_recording(self, credentials: Sequence[KeyCredential]) -> None:
        """Record uses without delaying reads.

        Otherwise a writer waiting for a lock would keep revoked keys valid.
        """
        if self._recording is None:
            self._recording = asyncio.create_task(self._record_uses(credentials), name="key-uses")
        await asyncio.wait([self._recording], timeout=_RECORDING_SECONDS)
        if self._recording.done():
            recording, self._recording = self._recording, None
            await recording

    async def _record_uses(self, credentials: Sequence[KeyCredential]) -> None:
        """Record each key's last use, at most once a minute."""
        due = [credential for credential in credentials if credential.used_at - credential.recorded_at >= _USE_PAUSE_MS]
        if due:
            uses = {credential.key.id: credential.used_at for credential in due}
            await self.writer.run(lambda unit: key_store.note_uses(unit.connection, uses, apart=_USE_PAUSE_MS))
            for credential in due:
                credential.recorded_at = uses[credential.key.id]
