"""The keyring reads keys rarely and never uses stale ones."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Engine, event

from app.access.authenticator import create_key, list_keys, revoke_key
from app.access.keyring import MAX_UNKNOWN, Keyring
from app.db import cluster_state
from app.db.engine import Database
from app.db.schema import api_keys
from app.domain.key import ApiKey
from app.errors import GatewayError, ServiceUnavailable
from app.writing.writer import Writer
from tests.support.clock import HandClock, HandTimer

NOON = HandClock.time


@dataclass
class Parts:
    url: str
    database: Database
    clock: HandClock
    keyring: Keyring
    monotonic: HandTimer
    writer: Writer
    reads: list[str] = field(default_factory=list)

    async def create(self) -> tuple[ApiKey, str]:
        return await create_key(self.database, self.clock, "a key", "default")

    async def revoke(self, key: ApiKey) -> None:
        assert await revoke_key(self.database, self.clock, key.id)

    async def last_used(self) -> int | None:
        (key,) = await list_keys(self.database)
        return key.last_used_at


@contextmanager
def counting(reads: list[str]) -> Iterator[None]:
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        reads.extend([statement] if "FROM api_keys" in statement and "hash" in statement else [])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@asynccontextmanager
async def parts_on(url: str) -> AsyncIterator[Parts]:
    database, clock = Database(url), HandClock()
    writer = Writer(database, clock, lambda _: None)
    writer.start()
    hand = HandTimer()
    keyring = Keyring(database=database, writer=writer, clock=clock, monotonic=hand)
    parts = Parts(url, database, clock, keyring, hand, writer)
    with counting(parts.reads):
        yield parts
    await writer.aclose()
    await database.aclose()


@pytest.fixture
async def parts(database_url: str) -> AsyncIterator[Parts]:
    async with parts_on(database_url) as parts:
        yield parts


async def test_a_key_is_read_once_for_many_requests(parts: Parts) -> None:
    key, secret = await parts.create()
    found = await asyncio.gather(*(parts.keyring.by_secret(secret) for _ in range(50)))
    assert {credential.key.id for credential in found if credential} == {key.id}
    assert len(parts.reads) == 1
    by_id = await parts.keyring.by_id(key.id)
    assert by_id is found[0]
    assert len(parts.reads) == 1


async def test_unknown_keys_share_reads_and_are_remembered_up_to_a_limit(parts: Parts) -> None:
    wrong = [f"wrong-{number}" for number in range(MAX_UNKNOWN + 500)]
    assert set(await asyncio.gather(*(parts.keyring.by_secret(secret) for secret in wrong))) == {None}
    first = len(parts.reads)
    assert first <= len(wrong) / 100
    assert set(await asyncio.gather(*(parts.keyring.by_secret(secret) for secret in wrong[-50:]))) == {None}
    assert len(parts.reads) == first
    assert len(parts.keyring._unknown) == MAX_UNKNOWN  # noqa: SLF001 -- anyone can add entries


async def test_an_unknown_key_is_read_again_soon(parts: Parts) -> None:
    assert await parts.keyring.by_secret("made-later-0123456789") is None
    await create_key(parts.database, parts.clock, "later", "default", "made-later-0123456789")
    parts.monotonic.seconds += 1
    assert await parts.keyring.by_secret("made-later-0123456789")


async def test_a_stale_key_is_read_again_before_it_admits_a_request(parts: Parts) -> None:
    key, secret = await parts.create()
    assert await parts.keyring.by_secret(secret)
    await parts.revoke(key)
    parts.monotonic.seconds += 1
    assert await parts.keyring.by_secret(secret) is None
    assert await parts.keyring.by_id(key.id) is None
    assert await parts.keyring.by_secret(secret) is None
    assert len(parts.reads) == 2


async def test_an_unavailable_database_fails_all_waiting_requests() -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/none")
    clock = HandClock()
    keyring = Keyring(database=away, writer=Writer(away, clock, lambda _: None), clock=clock)
    failed = await asyncio.gather(*(keyring.by_secret(f"key-{n}") for n in range(20)), return_exceptions=True)
    assert {type(error) for error in failed} == {ServiceUnavailable}
    await away.aclose()


async def test_a_refresh_ends_open_requests_with_one_read_for_all_keys(parts: Parts) -> None:
    key, secret = await parts.create()
    credential = await parts.keyring.by_secret(secret)
    assert credential is not None
    ended: list[GatewayError] = []
    twin: list[GatewayError] = []
    with credential.until_over(ended.append), credential.until_over(twin.append):
        parts.reads.clear()
        await parts.keyring.refresh()
        assert (len(parts.reads), ended) == (1, [])
        await parts.revoke(key)
        await parts.keyring.refresh()
        assert [why.code for why in (*ended, *twin)] == ["unauthorized"] * 2
        late: list[GatewayError] = []
        with credential.until_over(late.append):
            assert len(late) == 1  # at once
        await parts.keyring.refresh()
    assert len(ended) == 1
    assert len(parts.reads) == 2


async def test_a_key_without_a_row_counts_as_revoked(parts: Parts) -> None:
    _, secret = await parts.create()
    credential = await parts.keyring.by_secret(secret)
    await parts.database.write(lambda connection: connection.execute(api_keys.delete()))
    await parts.keyring.refresh()
    assert credential is not None
    assert credential.is_over


async def test_unused_keys_are_dropped_and_not_read(parts: Parts) -> None:
    await parts.keyring.refresh()
    assert parts.reads == []
    _, secret = await parts.create()
    assert await parts.keyring.by_secret(secret)
    parts.monotonic.seconds += 1_000
    found, _ = await asyncio.gather(parts.keyring.by_secret(secret), parts.keyring.refresh())
    assert found is not None  # requested again just in time
    parts.reads.clear()
    parts.monotonic.seconds += 10
    await parts.keyring.refresh()
    assert parts.reads == []
    parts.monotonic.seconds += 1_000
    await parts.keyring.refresh()
    assert parts.reads == []
    assert parts.keyring._credentials == {}  # noqa: SLF001
    assert await parts.keyring.by_secret(secret)


async def test_a_use_is_recorded_once_a_minute(parts: Parts) -> None:
    _, secret = await parts.create()
    assert await parts.last_used() is None
    await parts.keyring.by_secret(secret)
    assert await parts.last_used() is None  # the request itself doesn't record it
    await parts.keyring.refresh()
    assert await parts.last_used() == NOON
    for seconds, noted in ((10, 0), (59, 0), (60, 60), (61, 60)):
        parts.clock.time = NOON + seconds * 1000
        await parts.keyring.by_secret(secret)
        await parts.keyring.refresh()
        assert await parts.last_used() == NOON + noted * 1000


async def test_two_replicas_record_a_use_once(parts: Parts) -> None:
    _, secret = await parts.create()
    other = Keyring(database=parts.database, writer=parts.keyring.writer, clock=parts.clock)
    for one in (parts.keyring, other):
        await one.by_secret(secret)
    await parts.keyring.refresh()
    parts.clock.time = NOON + 10_000
    await other.by_secret(secret)
    await other.refresh()
    assert await parts.last_used() == NOON


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_blocked_writer_does_not_keep_revoked_keys_valid(parts: Parts) -> None:
    key, secret = await parts.create()
    credential = await parts.keyring.by_secret(secret)
    assert credential is not None
    ended: list[GatewayError] = []
    other, command = await asyncpg.connect(parts.url), Database(parts.url)
    lock = other.transaction()
    await lock.start()
    await other.execute("LOCK TABLE facts")
    writing = asyncio.create_task(parts.writer.run(lambda unit: cluster_state.put(unit.connection, "name", "value")))
    try:
        with credential.until_over(ended.append):
            await asyncio.wait_for(parts.keyring.refresh(), 5)
            assert await revoke_key(command, parts.clock, key.id)
            await asyncio.wait_for(parts.keyring.refresh(), 5)
            assert len(ended) == 1
    finally:
        await lock.rollback()
        await other.close()
        await command.aclose()
    await writing
    await parts.keyring.refresh()
    assert await parts.last_used() == NOON
