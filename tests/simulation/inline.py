"""SQLite without a thread: the simulation takes a million steps, and each would wait for another thread many times.

Only who calls SQLite is different, not what it is told; the services and the statements are the real ones.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


class InlineConnection(aiosqlite.Connection):
    """An aiosqlite connection that does its work at once, where it stands."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        self._connection = self._connector()
        yield from ()
        return self

    async def close(self) -> None:
        self.stop()

    def stop(self) -> asyncio.Future[Any] | None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return None


def work_inline(engine: AsyncEngine) -> None:
    """Make an engine's future connections inline ones."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        parameters["async_creator_fn"] = _create


def _create(path: str, **parameters: Any) -> InlineConnection:
    return InlineConnection(partial(sqlite3.connect, path, **parameters), iter_chunk_size=64)
