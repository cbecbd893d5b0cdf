"""Structured logs: for people on a console, for machines as one JSON object a line. No secret gets in."""

import asyncio
import atexit
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, TextIO

import msgspec
import structlog

from app.redaction import Redactor

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_is_plain = re.compile(r"[\w.:/+@~-]+").fullmatch
_to_json = msgspec.json.Encoder(enc_hook=repr).encode
_in_colors = structlog.dev.ConsoleRenderer(colors=True)
_EVENT_WIDTH = 16
_PLAIN_VALUES = (str, int, float, list, tuple, dict, NoneType)
_CAN_WAIT = frozenset({"debug", "info"})
# Nobody reads faster. What a killed process told within it is lost.
_GATHER_SECONDS = 0.02

_Render = Callable[[str, str, str, dict[str, Any]], str]
"""Makes a line of time, level, what happened, and the fields."""
_Event = tuple[int, str, str, dict[str, Any]]
"""Nanoseconds since the epoch, level, what happened, and its fields."""


def configure_logs(log_format: Literal["console", "json"], level: str, secrets: list[str]) -> None:
    """Send all logs, the libraries' too, to standard error; `secrets` are blotted out wherever they turn up.

    Our own lines are written without the standard library's loggers, which take four times as long.
    """
    lines = LineWriter(sys.stderr, _renderer(log_format), Redactor(secrets))
    atexit.register(lines.flush)
    structlog.configure(
        wrapper_class=type("Logger", (_Telling, structlog.make_filtering_bound_logger(level)), {}),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryHandler(lines)]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "aiosqlite", "sqlalchemy.engine", "alembic", "asyncio", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Uvicorn installs handlers of its own unless told not to; its lines go the same way as ours.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # Its start and stop are told by the service itself; its warnings and errors are worth reading.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.access").disabled = True


def bind_request_id(request_id: str) -> None:
    """Say which request is being served from here on: each line that is told meanwhile has its id."""
    _request_id.set(request_id)


def current_request_id() -> str:
    """Return the id of the request that is being served, "" outside of one."""
    return _request_id.get()


class LineWriter:
    """Makes and writes the lines of what a few turns of the event loop told; warnings, and where no loop runs, at once.

    Lines are cheaper made together, while all that it takes is in the processor's caches. And each write lets another
    thread take the interpreter, and getting it back costs a busy service more than the write.
    """

    def __init__(self, file: TextIO, render: _Render, redact: Redactor) -> None:
        self._file = file
        self._render = render
        self._redact = redact
        self._events: list[_Event] = []
        # Whatever is collected while a line is made may tell of that itself, as tasks of the event loop do.
        self._lock = threading.RLock()
        self._flushing_on: asyncio.AbstractEventLoop | None = None

    def tell(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Write a line soon, or now, after those that wait. Values are kept as they are: they must not change."""
        if "exc_info" in fields:
            structlog.processors.format_exc_info(None, level, fields)
        if request_id := current_request_id():
            fields["request_id"] = request_id
        # Made first: between finding the list and adding to it no other thread may get to write and leave that list.
        told = (time.time_ns(), level, event, fields)
        self._events.append(told)
        if level not in _CAN_WAIT:
            self.flush()
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._flushing_on is not loop:
            self._flushing_on = loop
            loop.call_later(_GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            self._flushing_on = None
            events, self._events = self._events, []
            if events:
                lines = [self._line(*event) for event in events]
                # A full disk or a reader that has gone must cost the log alone, not the work that it tells of.
                with suppress(OSError):
                    self._file.write(self._redact.clean("\n".join([*lines, ""])))
                    self._file.flush()

    def _line(self, nanoseconds: int, level: str, event: str, fields: dict[str, Any]) -> str:
        timestamp = _isoformat(nanoseconds)
        self._redact.hide_named(fields)
        try:
            return self._render(timestamp, level, event, fields)
        except Exception as error:  # noqa: BLE001 -- a value that can't be written costs its line, not those beside it
            return self._render(timestamp, level, event, {"line_failed": type(error).__name__})


class _Telling(structlog.BoundLoggerBase):
    """What all levels of a bound logger come to: handing the event over, without a chain of processors."""

    _logger: LineWriter

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> None:
        self._logger.tell(method_name, event or "", {**self._context, **event_kw})


class _LibraryHandler(logging.Handler):
    """Where the lines of libraries come in, which use the standard library's loggers."""

    def __init__(self, lines: LineWriter) -> None:
        super().__init__()
        self._lines = lines

    def handle(self, record: logging.LogRecord) -> bool:
        """Take no lock: the writer has one, and two might be taken in either order."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it like an event of ours."""
        try:
            fields = {"exc_info": record.exc_info, "stack_info": record.stack_info}
            given = {name: value for name, value in fields.items() if value}
            self._lines.tell(record.levelname.lower(), record.getMessage(), given)
        except Exception:  # noqa: BLE001 -- as every handler does: the fault of a line is not its caller's
            self.handleError(record)


@lru_cache(maxsize=1)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _isoformat(nanoseconds: int) -> str:
    """Write a time, UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_to_the_second(seconds)}.{rest // 1000:06d}Z"


def _renderer(log_format: Literal["console", "json"]) -> _Render:
    if log_format == "json":
        return render_json
    return render_colored if sys.stderr.isatty() else render_line


def render_json(timestamp: str, level: str, event: str, fields: dict[str, Any]) -> str:
    """Write a log line for machines."""
    line: dict[str, Any] = {"timestamp": timestamp, "level": level, "event": event}
    # Bytes would come as base64, in which nobody finds what is to be blotted out, and objects with all their fields.
    line |= {name: value if isinstance(value, _PLAIN_VALUES) else repr(value) for name, value in fields.items()}
    try:
        return _to_json(line).decode()
    except UnicodeEncodeError:
        # Slower, and lets lone surrogates through, which the file escapes.
        return json.dumps(line, ensure_ascii=False, default=repr)


def render_colored(timestamp: str, level: str, event: str, fields: dict[str, Any]) -> str:
    """Write a log line for people at a terminal."""
    return _in_colors(None, level, {"timestamp": timestamp, "level": level, "event": event, **fields})


def render_line(timestamp: str, level: str, event: str, fields: dict[str, Any]) -> str:
    """Write a log line for people who read a file: time, level, event, then the fields, a traceback below."""
    traceback = fields.pop("exception", None)
    line = f"{timestamp} [{level:<8}] {event:<{_EVENT_WIDTH}}"
    for name, value in fields.items():
        # Most are a word or an id, which is seen in a fraction of the time that the pattern takes.
        is_word = type(value) is str and (value.isalnum() or value.isidentifier())
        line = f"{line} {name}={value if is_word else _quote(value)}"
    return f"{line}\n{traceback}" if traceback else line


def _quote(value: Any) -> str:
    """Keep values apart from each other, and whatever is in them on one line."""
    text = value if isinstance(value, str) else repr(value)
    return text if _is_plain(text) else repr(text)
