"""The gateway on a thread of the test process."""

import asyncio
import threading
from pathlib import Path
from typing import Any, Self, cast

from app.access.signing_secrets import load_secrets
from app.background import LoopTimes
from app.clock import Clock
from app.container import Container
from app.events.streams import StreamLimits
from app.main import create_app
from app.prepare import prepare_data_dir
from app.serve import bind, listen, make_server, prepare
from app.server.limits import ConnectionLimits
from app.server.protocol import LimitedProtocol
from app.settings import Settings
from app.web.open_requests import OpenLimits
from tests.support.clients.task_client import TaskClient
from tests.support.databases.sqlite import create_sqlite
from tests.support.waiting import until

# For tests of work that loops find without a wake-up.
FREQUENT = LoopTimes(check_seconds=0.1)
# Image URLs in most tests don't exist; tests of image copies override this.
QUICK = {
    "poll_after_seconds": 30.0,
    "upstream_rate_limit": "0",
    "upstream_timeout_seconds": 5.0,
    "keep_images": False,
}


class LiveGateway:
    """The service on a thread with a real port.

    Takes settings by field name, and limits and times as `create_app` does.
    """

    def __init__(self, *, data_dir: Path, upstream_url: str, **settings: Any) -> None:
        stream_limits: StreamLimits | None = settings.pop("stream_limits", None)
        open_limits: OpenLimits | None = settings.pop("open_limits", None)
        connection_limits: ConnectionLimits | None = settings.pop("connection_limits", None)
        loop_times: LoopTimes | None = settings.pop("loop_times", None)
        clock: Clock | None = settings.pop("clock", None)
        unwell_pauses: tuple[int, int] | None = settings.pop("unwell_pauses", None)
        given = {"nanobanana_api_key": "upstream-key", "data_dir": data_dir, **QUICK, **settings}
        self.settings = Settings(_env_file=None, **{"host": "127.0.0.1", "port": 0, **given})
        prepare_data_dir(self.settings)
        if self.settings.database_url is None and not (file := data_dir / "gateway.db").exists():
            create_sqlite(file)
        self._listener = bind(self.settings)
        asyncio.run(prepare(self.settings, load_secrets(self.settings)))
        listen(self._listener, self.settings)
        port = self._listener.getsockname()[1]
        self.settings = self.settings.model_copy(update={"port": port})
        self._app = create_app(
            self.settings,
            upstream_url=upstream_url,
            upstream_key="upstream-key",
            stream_limits=stream_limits,
            open_limits=open_limits,
            loop_times=loop_times,
            clock=clock,
            unwell_pauses=unwell_pauses,
        )
        self._server = make_server(self.settings, self._app, connection_limits)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), what="the start")
        assert self._server.started
        self.client = TaskClient(self.settings.local_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def container(self) -> Container:
        """The service's parts, for inspection; they belong to another thread."""
        container: Container = self._app.state.container
        return container

    @property
    def unsent_bytes(self) -> int:
        """The bytes buffered for all clients."""
        connections = list(self._server.server_state.connections)
        return sum(c.transport.get_write_buffer_size() for c in connections if c.transport is not None)

    @property
    def clients(self) -> set[tuple[str, int] | None]:
        """The addresses of connected clients."""
        connections = cast("set[LimitedProtocol]", self._server.server_state.connections)
        return {connection.client for connection in list(connections)}

    def begin_to_stop(self) -> None:
        """Begin to stop, as a signal would."""
        self._server.should_exit = True

    def close(self) -> None:
        self.client.close()
        self.begin_to_stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the service did not stop"
