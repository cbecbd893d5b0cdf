"""Concurrent requests share the check whether any key exists."""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from app.access.authenticator import Authenticator, create_key
from app.access.keyring import Keyring
from app.db.engine import Database
from app.db.migrate import migrate
from app.domain.browser_token import BrowserTokens
from app.writing.writer import Writer
from tests.support.clock import HandClock


async def test_concurrent_requests_share_one_check_for_keys(tmp_path: Path) -> None:
    database, clock = Database(f"sqlite:///{tmp_path / 'test.db'}"), HandClock()
    await migrate(database)
    writer = Writer(database, clock, lambda _: None)
    access = Authenticator(
        database=database,
        clock=clock,
        auth=None,
        keyring=Keyring(database=database, writer=writer, clock=clock),
        tokens=BrowserTokens(["secret"]),
    )
    reads: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        reads.extend([statement] if "api_keys" in statement and statement.startswith("SELECT") else [])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert all(await asyncio.gather(*(access.is_open() for _ in range(50))))
        assert len(reads) == 1
        clock.time += 1_500
        assert all(await asyncio.gather(*(access.is_open() for _ in range(50))))
        assert len(reads) == 2
        await create_key(database, clock, "first", "default")
        clock.time += 1_500
        # All waiting requests get the new result, not only the one that checks.
        assert not any(await asyncio.gather(*(access.is_open() for _ in range(50))))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        await database.aclose()
