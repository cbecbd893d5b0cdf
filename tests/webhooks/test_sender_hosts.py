"""The order of webhooks: hosts take turns, whatever their backlog."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from msgspec.structs import replace

from app.db import batch_store
from app.db.batch_store import Batch
from app.db.engine import Database
from app.db.migrate import migrate
from app.domain.delivery import LEASE_MS, Delivery, plan
from app.domain.destination import DestinationRules
from app.domain.event import event_of
from app.webhooks.client import WebhookClient
from app.webhooks.host_turns import HostTurns
from app.webhooks.secrets import WebhookSecrets
from app.webhooks.sender import WebhookSender
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from tests.support.tasks import NOW, STATES


class HandClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        return self.time


@dataclass
class Stage:
    deliver: WebhookSender
    database: Database
    writer: Writer
    clock: HandClock

    async def plan(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Plan a delivery for each (host, milliseconds from now)."""
        event = event_of(replace(STATES["succeeded"], webhook_url="https://receiver.example/"))
        template = plan(event)
        assert template is not None
        new = [replace(template, id=f"whd_{uuid4().hex}", host=host, due_at=NOW + after) for host, after in wanted]
        await self.writer.run(lambda unit: batch_store.write(unit.connection, Batch(deliveries=new)))

    async def permits(self, turns: HostTurns, free: int, busy: dict[str, int] | None = None) -> dict[str, int]:
        """Return the permits while each host has `busy` deliveries."""
        template = plan(event_of(replace(STATES["succeeded"], webhook_url="https://receiver.example/")))
        assert template is not None
        in_hand = [replace(template, host=host) for host, count in (busy or {}).items() for _ in range(count)]
        return dict(await turns.permits(free, in_hand, NOW))

    async def hosts(self, limit: int) -> list[str]:
        return [delivery.host for delivery in await self.claim(limit)]

    async def claim(self, limit: int) -> list[Delivery]:
        return await self.deliver.claim(limit)

    def done(self, claimed: Sequence[Delivery]) -> None:
        """Release claimed deliveries without an outcome, as after sending."""
        for delivery in claimed:
            self.deliver._work.done(delivery)  # noqa: SLF001 -- what sending does, without a receiver


@asynccontextmanager
async def stage(database_url: str) -> AsyncIterator[Stage]:
    database, clock = Database(database_url), HandClock()
    await migrate(database)
    writer = Writer(database, clock, lambda _: None)
    client = WebhookClient(DestinationRules())
    secrets = WebhookSecrets(database=database, writer=writer, clock=clock)
    deliver = WebhookSender(
        database=database,
        writer=writer,
        client=client,
        signing_secrets=secrets,
        clock=clock,
        schedule=[1000],
        base_url="",
        wake_up=WakeUp(),
    )
    writer.start()
    try:
        await writer.create(STATES["succeeded"])
        yield Stage(deliver, database, writer, clock)
    finally:
        await writer.aclose()
        await client.aclose()
        await database.aclose()


def test_hosts_take_turns_with_four_webhooks_each_at_a_time(database_url: str) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            await on.plan([("a", 0)] * 100 + [("b", 0)] * 2 + [("c", 0)] * 9)
            assert await on.hosts(3) == ["a", "b", "c"]
            assert sorted(await on.hosts(4)) == ["a", "a", "b", "c"]
            assert sorted(await on.hosts(50)) == ["a", "c", "c"]
            assert await on.hosts(50) == []

    asyncio.run(work())


def test_the_next_claim_continues_with_the_next_host(database_url: str) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            await on.plan([(host, 0) for host in "abcdefg" for _ in range(3)])
            served = [host for _ in range(7) for host in await on.hosts(3)]
            assert served == list("abcdefg" * 3)

    asyncio.run(work())


@pytest.mark.parametrize("count", [499, 500, 501, 1200])
def test_the_one_due_host_is_found_among_many(database_url: str, count: int) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            names = [f"h{number:05}" for number in range(count)]
            for chosen in (names[-1], names[0], names[count // 2]):
                await on.plan([(chosen, 0)])
                claimed = await on.claim(10)
                assert [delivery.host for delivery in claimed] == [chosen]
                if chosen == names[-1]:
                    await on.plan([(name, 60_000) for name in names])
            assert await on.hosts(10) == []

    asyncio.run(work())


def accepted(turns: HostTurns, *hosts: str, latency_ms: int = 100) -> None:
    for host in hosts:
        turns.note_response(host, has_responded=True, is_success=True, latency_ms=latency_ms)


def test_healthy_hosts_get_the_free_workers_and_leave_as_many_free(database_url: str) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            turns = HostTurns(on.database, 64)
            await on.plan([("a", 0)])
            assert await on.permits(turns, 64) == {"a": 4}, "it has not proven itself yet"
            accepted(turns, "a")
            assert await on.permits(turns, 64) == {"a": 32}
            assert await on.permits(turns, 32, {"a": 32}) == {}
            await on.plan([("b", 0)])
            accepted(turns, "b")
            # A host below its fair share comes first.
            assert await on.permits(turns, 32, {"a": 32}) == {"b": 16}
            assert await on.permits(turns, 64) == {"a": 22, "b": 21}
            assert await on.permits(turns, 2, {"a": 60, "b": 2}) == {"b": 2}

    asyncio.run(work())


@pytest.mark.parametrize("failure", ["slow", "error", "silence"])
def test_a_host_that_is_no_longer_healthy_goes_back_to_its_share(database_url: str, failure: str) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            turns = HostTurns(on.database, 64)
            await on.plan([("a", 0)])
            accepted(turns, "a")
            if failure == "slow":
                accepted(turns, "a", latency_ms=2_001)
            else:
                turns.note_response("a", has_responded=failure == "error", is_success=False, latency_ms=100)
            assert await on.permits(turns, 64) == {"a": 1 if failure == "silence" else 4}

    asyncio.run(work())


def test_hosts_that_are_not_healthy_share_half_of_the_workers(database_url: str) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            turns = HostTurns(on.database, 64)
            unproven = [f"h{number:03}" for number in range(100)]
            await on.plan([*((host, 0) for host in unproven), ("z", 0)])
            assert sum((await on.permits(turns, 64)).values()) == 32
            accepted(turns, "z")
            # However many others wait, and with all of their workers busy.
            permits = await on.permits(turns, 64)
            assert (permits.pop("z"), sum(permits.values())) == (16, 32)
            assert await on.permits(turns, 32, dict.fromkeys(unproven[:32], 1)) == {"z": 16}
            assert await on.permits(turns, 20, dict.fromkeys(unproven[:44], 1)) == {"z": 10}

    asyncio.run(work())


def test_a_dead_processs_deliveries_are_claimed_when_their_lease_ends(database_url: str) -> None:
    async def work() -> None:
        async with stage(database_url) as on:
            await on.plan([("a", 0)])
            claimed = await on.claim(10)
            assert [(d.due_at, d.claimed_by is not None) for d in claimed] == [(NOW + LEASE_MS, True)]
            on.clock.time += LEASE_MS
            assert await on.claim(10) == [], "this process still works on it, whatever the lease says"
            on.done(claimed)
            on.clock.time -= 1
            assert await on.claim(10) == []
            on.clock.time += 1
            assert [d.id for d in await on.claim(10)] == [claimed[0].id]

    asyncio.run(work())
