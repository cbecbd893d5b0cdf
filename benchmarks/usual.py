"""A typical callback handler, with one ORM session per request.

Run it as `python -m benchmarks.usual --port N`, with `DATABASE_URL`.
"""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from sqlalchemy import event, insert
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.noop import serve

_POOL = 20


class _Base(DeclarativeBase):
    pass


class _Task(_Base):
    __tablename__ = "usual_tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    image_url: Mapped[str | None]


def make_engine(url: str) -> AsyncEngine:
    """Connect, with the same durability as the service."""
    if url.startswith("postgres"):
        return create_async_engine("postgresql+asyncpg://", pool_size=_POOL, connect_args={"dsn": url})
    # A single connection, as more would only make each other's commits fail.
    engine = create_async_engine(make_url(url).set(drivername="sqlite+aiosqlite"), pool_size=1, max_overflow=0)
    event.listens_for(engine.sync_engine, "connect")(_prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


async def seed(url: str, ids: Iterable[str]) -> None:
    """Add tasks that wait for their callback."""
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(_Base.metadata.create_all)
        await connection.execute(insert(_Task), [{"id": one, "status": "processing"} for one in ids])
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    await engine.dispose()


async def count_succeeded(url: str) -> int:
    """Count tasks with a committed callback."""
    engine = make_engine(url)
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql("SELECT count(*) FROM usual_tasks WHERE status = 'succeeded'")
        count = int(found.scalar_one())
    await engine.dispose()
    return count


def make_app(url: str) -> FastAPI:
    """Build the application."""
    engine = make_engine(url)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def ready() -> dict[str, Any]:
        return {"ok": True}

    @app.post("/callbacks/{task_id}")
    async def receive(task_id: str, body: dict[str, Any]) -> dict[str, Any]:
        async with sessions() as session:
            await _apply(session, task_id, body)
            await session.commit()
        return {"status": "received"}

    return app


async def _apply(session: AsyncSession, task_id: str, body: dict[str, Any]) -> None:
    task = await session.get(_Task, task_id)
    if task is None:
        raise HTTPException(404)
    task.status = "succeeded"
    task.image_url = body["data"]["info"]["resultImageUrl"]


if __name__ == "__main__":
    serve(make_app(os.environ["DATABASE_URL"]))
