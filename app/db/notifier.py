"""Hearing of other processes' commits: a connection of its own that listens to PostgreSQL's notices."""

import asyncio
from collections.abc import Callable

import asyncpg
import structlog

from app.db.batch_store import CHANNEL

_CONNECT_TIMEOUT_SECONDS = 5
_CHECK_SECONDS = 15
_CHECK_TIMEOUT_SECONDS = 5
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_log = structlog.get_logger(__name__)


class Notifier:
    """Calls `on_notice` whenever events were committed by anybody, this process included; reconnects by itself.

    Notices sent while the connection is away are lost, so whoever is called must look by itself now and then.
    """

    def __init__(self, url: str, on_notice: Callable[[], None]) -> None:
        self._url = url
        self._on_notice = on_notice
        self._task: asyncio.Task[None] | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def start(self) -> None:
        """Start listening in the background."""
        self._task = asyncio.create_task(self._run(), name="notices")

    async def aclose(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.warning("notices_lost", error=repr(error), again_in_seconds=self._pause)
            except Exception:  # noqa: BLE001 -- logged; without notices news come later, without this task forever so
                _log.exception("notices_failed")
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _listen(self) -> None:
        """Listen until the connection breaks; raises what broke it."""
        lost = asyncio.Event()
        connection = await asyncpg.connect(
            self._url,
            timeout=_CONNECT_TIMEOUT_SECONDS,
            command_timeout=_CHECK_TIMEOUT_SECONDS,
            server_settings={"application_name": "nanobanana-gateway notices"},
        )
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._on_notice())
            self._pause = _FIRST_PAUSE_SECONDS
            # What was committed while nobody listened.
            self._on_notice()
            while not lost.is_set():
                try:
                    async with asyncio.timeout(_CHECK_SECONDS):
                        await lost.wait()
                except TimeoutError:
                    # A connection that a firewall has forgotten looks like one on which nothing happens.
                    await connection.execute("SELECT 1")
            raise ConnectionResetError("the server closed the connection")
        finally:
            connection.terminate()
