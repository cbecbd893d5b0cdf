"""An event stream client, as strict as a browser's."""

import http.client
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.records import Records


@dataclass(frozen=True)
class Event:
    """A received event; `id` is None if it had none."""

    id: int | None
    type: str
    data: dict[str, Any]

    @property
    def told(self) -> tuple[str, str]:
        """The task id and reported state."""
        assert self.type == f"task.{self.data['status']}"
        return self.data["id"], self.data["status"]


class EventReader:
    """Follows a stream on a thread after receiving its head.

    With `asleep`, it reads nothing before `wake` and has a small receive buffer.
    """

    def __init__(
        self, base_url: str, path: str, *, last_id: int | str | None = None, asleep: bool = False, **headers: str
    ) -> None:
        parts = urlsplit(base_url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        self._socket = socket.socket()
        self._socket.settimeout(60)
        if asleep:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect((str(parts.hostname), parts.port))
        self._connection.sock = self._socket
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if last_id is not None:
            given["Last-Event-ID"] = str(last_id)
        self._connection.request("GET", path, headers=given)
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = self._response.headers
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.retry: int | None = None
        self.is_over = False
        self._records = Records()
        self._thread = threading.Thread(target=self._read, daemon=True)
        if not asleep:
            self.wake()

    def wake(self) -> None:
        """Start reading."""
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ids(self) -> list[int]:
        """The ids of task events, in order of arrival."""
        return [event.id for event in list(self.events) if event.id is not None]

    @property
    def told(self) -> list[tuple[str, str]]:
        """Task ids and reported states, in order of arrival."""
        return [event.told for event in list(self.events) if event.id is not None]

    def statuses(self, task_id: str) -> list[str]:
        """Return the reported states of a task."""
        return [status for told_id, status in self.told if told_id == task_id]

    def wait(self, look: Callable[[Self], object], *, seconds: float = 15, what: str = "the event") -> None:
        self._records.wait_for(lambda: bool(look(self)), seconds=seconds, what=what)

    def wait_for_end(self, seconds: float = 15) -> list[Event]:
        """Wait until the server ends the stream; return all events."""
        self._thread.join(seconds)
        assert self.is_over, "the stream did not end"
        return self.events

    def problem(self) -> tuple[int, str]:
        """Return the problem received instead of a stream."""
        assert self.headers["content-type"] == "application/problem+json"
        self._thread.join(10)
        return self.status, json.loads(self._body)["code"]

    def detail(self) -> str:
        """What it says."""
        self._thread.join(10)
        return str(json.loads(self._body)["detail"])

    def close(self) -> None:
        """Disconnect."""
        with suppress(OSError):  # the server closed it first
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join(10)
        self._connection.close()

    def _read(self) -> None:
        try:
            if self.headers.get("content-type", "").startswith("text/event-stream"):
                self._parse()
            else:
                self._body = self._response.read()
        except (OSError, http.client.HTTPException, ValueError):
            return  # cut off
        with self._records:
            self.is_over = True

    def _parse(self) -> None:
        fields: dict[str, str] = {}
        while raw := self._response.readline():
            line = raw.decode().removesuffix("\n")
            name, _, value = line.partition(":")
            if not line:
                if "data" in fields:
                    event_id = int(fields["id"]) if "id" in fields else None
                    event = Event(event_id, fields.get("event", "message"), json.loads(fields["data"]))
                    with self._records:
                        self.events.append(event)
                fields = {}
            elif not name:
                with self._records:
                    self.comments.append(value.strip())
            elif name == "retry":
                self.retry = int(value)
            else:
                assert name in {"id", "event", "data"}
                assert name not in fields
                fields[name] = value.removeprefix(" ")
