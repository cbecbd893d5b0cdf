"""Fills a database with millions of tasks in SQL.

Row `i` was created `i` seconds ago. The newest few thousand tasks are in flight, regardless of the history's length.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import asyncpg
from sqlalchemy.engine import make_url

QUEUED = 3_000
PROCESSING = 2_000
SUBMITTING = 16
IN_FLIGHT = QUEUED + PROCESSING + SUBMITTING
CLAIMED_BY = "benchmark"
_AT_ONCE = 100_000
_KEYS = 100_000
_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Database-specific SQL fragments for the statements below."""

    rows: str
    hexadecimal: str
    nothing: str
    json: str


_SQLITE = _Dialect(
    rows="(WITH RECURSIVE n(i) AS (SELECT {last} UNION ALL SELECT i - 1 FROM n WHERE i > {first}) SELECT i FROM n)",
    hexadecimal="printf('%0{width}x', {value})",
    nothing="",
    json="",
)
_POSTGRESQL = _Dialect(
    rows="generate_series({last}::bigint, {first}::bigint, -1) AS n(i)",
    hexadecimal="lpad(to_hex({value}), {width}, '0')",
    nothing="::bigint",
    json="::json",
)

_TASKS = """
INSERT INTO tasks (
    id, project, subject, model, type, input, metadata, status, upstream_task_id, attempts, failures, error_code,
    error_message, created_at, claimed_at, claimed_by, submitted_at, completed_at, updated_at, not_before, ask_at,
    asked_at, asks, deadline_at, callbacks, version
)
SELECT
    {id}, project,
    CASE WHEN i % 10 = 3 THEN 'user-' || (i % 1000) END,
    CASE WHEN i % 100 < 80 THEN 'nano-banana' WHEN i % 100 < 99 THEN 'nano-banana-pro' ELSE 'nano-banana-2' END,
    CASE WHEN i % 4 = 0 THEN 'image_to_image' ELSE 'text_to_image' END,
    '{{"prompt":"a lake at sunset, seen from a wooden pier","image_urls":[],"num_images":1,"aspect_ratio":"16:9"}}'{json},
    ('{{"order":"' || i || '"}}'){json},
    status,
    CASE WHEN status NOT IN ('queued', 'submitting') THEN {upstream_id} END,
    CASE WHEN status = 'queued' THEN 0 ELSE 1 END,
    0,
    CASE WHEN status = 'failed' THEN CASE WHEN i % 200 = 6 THEN 'timeout' ELSE 'content_policy' END END,
    CASE WHEN status = 'failed' THEN 'The upstream said no.' END,
    {now} - i * 1000,
    CASE WHEN status <> 'queued' THEN {now} - i * 1000 + 20 END,
    CASE WHEN status = 'submitting' THEN '{claimed_by}' END,
    CASE WHEN status NOT IN ('queued', 'submitting') THEN {now} - i * 1000 + 300 END,
    CASE WHEN status IN ('succeeded', 'failed', 'canceled') THEN {now} - i * 1000 + 9000 END,
    {now} - i * 1000 + 9000,
    {now} - i * 1000,
    -- Every tenth task in processing is due for a poll, and so are some that timed out within the last day.
    CASE WHEN status = 'processing' THEN {now} - 1000 + (i % 10) * 6000
         WHEN status = 'failed' AND i % 200 = 6 AND i < 86400 THEN {now} + i * 10 END,
    NULL{nothing},
    0,
    -- Tasks that were claimed and never reported are past their deadline.
    CASE WHEN status = 'queued' THEN {now} + {day} WHEN status = 'processing' THEN {now} + 900000 - (i % 800) * 1000
         WHEN status = 'submitting' THEN {now} - 1000 END,
    CASE WHEN status = 'succeeded' THEN 1 ELSE 0 END,
    CASE WHEN status = 'queued' THEN 0 ELSE 3 END
FROM (
    SELECT
        i,
        CASE WHEN i % 2 = 0 THEN 'default' ELSE 'project-' || (i % 50) END AS project,
        CASE WHEN i <= {queued} THEN 'queued' WHEN i <= {processing} THEN 'processing'
             WHEN i <= {submitting} THEN 'submitting' WHEN i % 100 < 6 OR i % 200 = 6 THEN 'failed'
             WHEN i % 100 < 8 THEN 'canceled' ELSE 'succeeded' END AS status
    FROM {rows}
) AS made
"""
_IMAGES = """
INSERT INTO images (id, task_id, position, source_url, state)
SELECT 'img_' || {reverse_id}, {id}, 0, 'https://tempfile.example/' || i || '.png', 'pending'
FROM {rows} WHERE i > {submitting} AND i % 4 = 1 AND i % 100 >= 8
"""
_EVENTS = """
INSERT INTO events (task_id, project, type, snapshot, created_at)
SELECT
    {id}, CASE WHEN i % 2 = 0 THEN 'default' ELSE 'project-' || (i % 50) END, 'task.' || word,
    ('{{"status":"' || word || '","attempts":1,"upstream_task_id":null,"error":null,"submitted_at":null}}'){json},
    {now} - i * 1000 + step
FROM {rows}
CROSS JOIN (
    SELECT 0 AS step, 'queued' AS word UNION ALL SELECT 20, 'submitting' UNION ALL SELECT 300, 'processing'
    UNION ALL SELECT 9000, 'succeeded'
) AS steps
WHERE i > {submitting} AND i % 4 = 1 AND i % 100 >= 8
"""
# One every ten seconds for longer than their lifetime of a day, so that some have expired.
_IDEMPOTENCY_KEYS = """
INSERT INTO idempotency_keys (project, subject, key, fingerprint, task_id, created_at)
SELECT 'default', '', 'order-' || i, {reverse_id}, {id}, {now} - i * 10000 FROM {rows}
"""


class History:
    """One database's history, which grows backward from `now` (ms)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_postgresql = url.startswith("postgres")
        self.now = time.time_ns() // 1_000_000
        self.rows = 0

    async def grow(self, rows: int) -> None:
        """Add older tasks up to a total of `rows`.

        Can be canceled between statements, which take some seconds each.
        """
        statements = []
        while self.rows < rows:
            first, last = self.rows + 1, min(self.rows + _AT_ONCE, rows)
            kinds = [_TASKS, _IMAGES, _EVENTS, *([_IDEMPOTENCY_KEYS] if last <= _KEYS else [])]
            statements += [self._fill(kind, first, last) for kind in kinds]
            self.rows = last
        if self._is_postgresql:
            await _run_on_postgresql(self._url, statements)
        else:
            await _run_on_sqlite(self._url, statements)

    def task_id(self, number: int) -> str:
        """Return the id of the task created `number` seconds ago."""
        return f"task_{self.now - number * 1000:012x}7{number:019x}"

    def _fill(self, statement: str, first: int, last: int) -> str:
        dialect = _POSTGRESQL if self._is_postgresql else _SQLITE

        def hexadecimal(value: str, width: int) -> str:
            return dialect.hexadecimal.format(value=value, width=width)

        return statement.format(
            id=f"'task_' || {hexadecimal(f'{self.now} - i * 1000', 12)} || '7' || {hexadecimal('i', 19)}",
            reverse_id=hexadecimal("i * 2654435761 % 4294967296", 32),
            upstream_id=hexadecimal("i", 32),
            rows=dialect.rows.format(first=first, last=last),
            nothing=dialect.nothing,
            json=dialect.json,
            now=self.now,
            day=_DAY,
            queued=QUEUED,
            processing=QUEUED + PROCESSING,
            submitting=IN_FLIGHT,
            claimed_by=CLAIMED_BY,
        )


async def _run_on_sqlite(url: str, statements: Sequence[str]) -> None:
    path = make_url(url).database or ""
    # Durability doesn't matter: a crash of the machine would end the benchmark, too.
    quick = ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -500000")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        for statement in (*quick, *statements, "PRAGMA wal_checkpoint(TRUNCATE)"):
            await asyncio.to_thread(connection.execute, statement)


async def _run_on_postgresql(url: str, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET synchronous_commit = off")
        for statement in statements:
            await connection.execute(statement)
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
