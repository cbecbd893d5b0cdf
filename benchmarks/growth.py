"""`python -m benchmarks.growth`: the bytes of a finished task, and how fast old ones are deleted beside submits."""

import argparse
import asyncio
import json
import secrets
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import func, insert, make_url, select

from app.clock import SystemClock
from app.db import blob_store, delivery_store, image_store, task_store
from app.db.blob_store import Blob
from app.db.engine import Connection, Database
from app.db.migrate import migrate
from app.db.schema import tasks, webhook_attempts
from app.domain import delivery as delivery_rules
from app.domain import image as image_rules
from app.domain import transitions
from app.domain.callback import ReceivedCallback
from app.domain.delivery import Attempt, DeliveryResponse
from app.domain.event import images_settled
from app.domain.image import Stored
from app.domain.models import Model
from app.domain.task import Task, new_task
from app.domain.verdict import Succeeded
from app.logging import configure_logs
from app.tasks.retention import Retention
from app.writing.unit_of_work import Decision, UnitOfWork
from app.writing.writer import Writer
from benchmarks.databases import KINDS, Databases
from benchmarks.report import Table, machine
from benchmarks.seeding import INPUT, POLICY

_AT_ONCE = 200
_HOST = "hooks.example.com"
_SUBMITS_PER_SECOND = 50
# Autovacuum keeps up with the service, but not with a benchmark that fills a database in seconds.
_VACUUM_EVERY = 5


class Filler:
    """Finishes tasks through the service's own transitions: one image, one webhook, all events."""

    def __init__(self, url: str, writer: Writer) -> None:
        self._url = url
        self._writer = writer

    async def fill(self, count: int) -> None:
        """Add finished tasks."""
        for number in range(count // _AT_ONCE):
            await self._add(_AT_ONCE)
            if number % _VACUUM_EVERY == 0:
                await vacuum(self._url)

    async def _add(self, count: int) -> None:
        now = SystemClock().now()
        new = [queued(now) for _ in range(count)]
        await asyncio.gather(*(self._writer.create(task) for task in new))
        ids = [task.id for task in new]
        await self._writer.run(lambda unit: _claim(unit, ids))
        await asyncio.gather(*(self._writer.move(task_id, _accept) for task_id in ids))
        await asyncio.gather(*(self._writer.move(task_id, _conclude) for task_id in ids))
        await self._writer.run(lambda unit: _settle_images(unit, ids))
        await self._writer.run(_deliver)


def queued(now: int) -> Task:
    """Make a task as a submit does."""
    return new_task(
        project="default",
        model=Model.NANO_BANANA,
        task_input=INPUT,
        metadata={"order": "42"},
        now=now,
        queue_timeout=POLICY.queue_timeout,
        webhook_url=f"https://{_HOST}/nanobanana",
    )


def _claim(unit: UnitOfWork, ids: Sequence[str]) -> None:
    locked = task_store.lock(unit.connection, ids).values()
    claims = [transitions.claim(task, "0123456789abcdef", unit.now, POLICY) for task in locked]
    unit.write([claim for claim in claims if claim])


def _accept(task: Task | None) -> Decision[None]:
    accepted = transitions.accept(task, secrets.token_hex(16), SystemClock().now(), POLICY) if task else None
    return Decision(None, accepted)


def _conclude(task: Task | None) -> Decision[None]:
    if task is None:
        return Decision(None)
    url = f"https://tempfile.example/workers/nano/image_{secrets.token_hex(8)}.png"
    data = {"taskId": task.upstream_task_id, "info": {"resultImageUrl": url}}
    body = json.dumps({"code": 200, "msg": "Nano Banana image generated successfully.", "data": data}).encode()
    now = SystemClock().now()
    received = ReceivedCallback(task.id, now, 200, "received", body)
    return Decision(None, transitions.conclude(task, Succeeded(task.upstream_task_id or "", (url,)), now), received)


def _settle_images(unit: UnitOfWork, ids: Sequence[str]) -> None:
    found = task_store.get_all(unit.connection, ids)
    for task_id, images in task_store.images_of(unit.connection, ids).items():
        for image in images:
            stored = Stored(secrets.token_hex(32), "image/png", 1_500_000, 1344, 768)
            blob = Blob(
                hash=stored.hash,
                content_type=stored.content_type,
                bytes=stored.bytes,
                width=stored.width,
                height=stored.height,
            )
            blob_store.reserve(unit.connection, blob, now=unit.now, until=unit.now + 10**12)
            image_store.save(unit.connection, [image_rules.store(image, stored)])
        unit.events.append(images_settled(found[task_id], unit.now))


def _deliver(unit: UnitOfWork) -> None:
    response = DeliveryResponse(200, None, b"ok")
    due = delivery_store.claimable(unit.connection, _HOST, now=unit.now, limit=_AT_ONCE)
    done = [delivery_rules.settle(each, response, by="", now=unit.now, schedule=[], jitter=0) for each in due]
    delivery_store.save(unit.connection, done)
    attempts = [
        Attempt(delivery_id=each.id, at=unit.now, status=200, error=None, latency_ms=200, response=b"ok")
        for each in due
    ]
    unit.connection.execute(insert(webhook_attempts), [asdict(attempt) for attempt in attempts])


async def vacuum(url: str) -> None:
    """Let PostgreSQL reuse the space of dead rows, as autovacuum does."""
    if not url.startswith("sqlite"):
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("VACUUM")
        finally:
            await connection.close()


async def sizes(url: str) -> dict[str, int]:
    """Read the bytes of each table and each index."""
    if url.startswith("sqlite"):
        return _sqlite_sizes(make_url(url).database or "")
    await vacuum(url)
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT relname, pg_relation_size(oid) + CASE WHEN reltoastrelid > 0 THEN"
            " pg_total_relation_size(reltoastrelid) ELSE 0 END AS bytes"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
        )
    finally:
        await connection.close()
    return {row["relname"]: row["bytes"] for row in rows}


def _sqlite_sizes(path: str) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return dict(connection.execute("SELECT name, SUM(pgsize) FROM dbstat GROUP BY name").fetchall())


async def measure(kind: str, url: str, count: int, *, calm_seconds: float = 3.0) -> tuple[Table, Table]:
    """Fill an empty database, weigh it, and delete everything beside submits."""
    database = Database(url)
    writer = Writer(database, SystemClock(), lambda _: None, keeps_images=True)
    try:
        await migrate(database)
        writer.start()
        filler = Filler(url, writer)
        await filler.fill(_AT_ONCE)
        before = await sizes(url)
        await filler.fill(count)
        after = await sizes(url)
        grown = {name: (after[name] - before.get(name, 0)) / count for name in after}
        return _sizes_table(kind, grown, count), await _retention_table(
            kind, database, writer, count + _AT_ONCE, calm_seconds
        )
    finally:
        await writer.aclose()
        await database.aclose()


def _sizes_table(kind: str, grown: dict[str, float], count: int) -> Table:
    table = Table(f"Bytes of a finished task, {kind}", ("table or index", "bytes per task"))
    for name, size in sorted(grown.items(), key=lambda item: -item[1]):
        if size >= 1:
            table.rows.append((name, f"{size:,.0f}"))
    table.rows.append(("all", f"{sum(grown.values()):,.0f}"))
    table.notes.append(f"{count:,} tasks with one image, one webhook, one callback and five events.")
    return table


async def _retention_table(kind: str, database: Database, writer: Writer, count: int, calm_seconds: float) -> Table:
    table = Table(
        f"Retention beside {_SUBMITS_PER_SECOND} submits/s, {kind}",
        ("", "tasks deleted/s", "submits", "median ms", "p99 ms", "longest ms"),
    )
    calm = await _submit_while(writer, asyncio.sleep(calm_seconds))
    table.rows.append(("without retention", "-", *_cells(calm)))
    retention = Retention(database=database, writer=writer, clock=SystemClock(), days=1e-9)
    before = await database.read(_count)
    began = time.monotonic()
    busy = await _submit_while(writer, _delete_all(retention))
    seconds = time.monotonic() - began
    deleted = before + len(busy) - await database.read(_count)
    table.rows.append(("with retention", f"{deleted / seconds:,.0f}", *_cells(busy)))
    if deleted < count:
        table.failures.append(f"{count - deleted:,} tasks were not deleted")
    return table


def _count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(tasks)).scalar_one())


async def _delete_all(retention: Retention) -> None:
    while await retention.remove_old():
        pass


async def _submit_while(writer: Writer, work: Any) -> list[float]:
    took: list[float] = []

    async def submit() -> None:
        began = time.perf_counter()
        await writer.create(queued(SystemClock().now()))
        took.append(time.perf_counter() - began)

    running = asyncio.ensure_future(work)
    submits: set[asyncio.Task[None]] = set()
    while not running.done():
        submits.add(asyncio.create_task(submit()))
        await asyncio.sleep(1 / _SUBMITS_PER_SECOND)
    await running
    await asyncio.gather(*submits)
    return took


def _cells(took: Sequence[float]) -> tuple[str, ...]:
    p99 = statistics.quantiles(took, n=100)[98]
    return (f"{len(took)}", *(f"{one * 1000:,.1f}" for one in (statistics.median(took), p99, max(took))))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="how many finished tasks (default: 20000)")
    parser.add_argument("--database", choices=[kind.lower() for kind in KINDS], action="append", help="default: both")
    parser.add_argument("--directory", type=Path, help="where databases are made (default: the temporary directory)")
    given = parser.parse_args()
    configure_logs("console", "error", [])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{machine('nothing')}\n")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.directory) as own, Databases(Path(own)) as databases:
        for kind in KINDS if given.database is None else [k for k in KINDS if k.lower() in given.database]:
            for table in asyncio.run(measure(kind, databases.create(kind).url, given.tasks)):
                print(f"{table.markdown()}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
