"""Structured logs as console lines or JSON, with secrets redacted."""

import logging
import os
import re
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from app.redaction import RedactingRenderer

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_is_plain = re.compile(r"[\w.:/+@~-]+").fullmatch
_EVENT_WIDTH = 16
_CHATTY = ("httpx", "httpcore", "sqlalchemy.engine", "alembic", "asyncio", "PIL")


def configure_logs(log_format: Literal["console", "json"], level: str, secrets: list[str]) -> None:
    """Send all logs to standard error, with `secrets` masked."""
    output = Output(_reopened(sys.stderr))
    shared: list[Processor] = [
        _add_request_id,
        _leave_out_none,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render = RedactingRenderer(_renderer(log_format, is_terminal=output.is_terminal), secrets)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=True,
    )
    handler = _LibraryHandler(output)
    handler.lock = output.lock
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, render])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # The service logs its own start and stop.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))


def bind_request_id(request_id: str) -> None:
    """Add this request ID to all lines of the context."""
    _request_id.set(request_id)


def current_request_id() -> str:
    """Return the current request's ID, or "" if none."""
    return _request_id.get()


class Output:
    """Writes lines synchronously; a failure loses only the line.

    It replaces `structlog.WriteLogger`, which raises when the disk is full. Its lock is reentrant because the garbage
    collector may finalize an object that logs during a write. For the same reason the library handler shares the lock,
    as two locks could deadlock.
    """

    def __init__(self, file: TextIO | None) -> None:
        # None if the process was started with standard error closed.
        self.lock = threading.RLock()
        self._file = file or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- open until the process ends

    @property
    def is_terminal(self) -> bool:
        """Whether the log goes to a terminal."""
        return self._file.isatty()

    def write(self, text: str) -> None:
        """Write text that ends with a newline."""
        # Raised by the system, by a closed stream, and for a write from a signal handler during a write.
        with self.lock, suppress(OSError, ValueError, RuntimeError):
            self._file.write(text)
            self._file.flush()

    def flush(self) -> None:
        """Do nothing, because `write` flushes."""

    def msg(self, line: str) -> None:
        """Write a line; structlog calls it by the level's name."""
        self.write(line + "\n")

    debug = info = warning = error = critical = msg


class _LibraryHandler(logging.StreamHandler[Output]):
    """Writes lines logged through the standard library."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the standard library's name
        """Log the failure; the default would print the line unredacted."""
        failed = logging.LogRecord(record.name, record.levelno, "", 0, "line_failed", (), None)
        self.stream.write(self.format(failed) + self.terminator)


def _reopened(file: TextIO | None) -> TextIO | None:
    """Return standard error with a separate buffer.

    If Python can't flush its own buffer at exit, the process ends with status 120.
    """
    standard = sys.__stderr__
    if standard is None or file is not standard:
        return file
    return os.fdopen(standard.fileno(), "w", encoding=standard.encoding, errors=standard.errors, closefd=False)


def _add_request_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    if request_id := current_request_id():
        event["request_id"] = request_id
    return event


def _leave_out_none(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _renderer(log_format: Literal["console", "json"], *, is_terminal: bool) -> Processor:
    """Return the processor that turns an event into a line."""
    if log_format == "json":
        # `repr` keeps bytes readable and lets redaction find secrets in them.
        return structlog.processors.JSONRenderer(default=repr, ensure_ascii=False)
    if is_terminal:
        # Quote all values, because control characters must not reach the terminal.
        return structlog.dev.ConsoleRenderer(
            pad_event_to=_EVENT_WIDTH,
            repr_native_str=True,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
    return _render_plain


def _render_plain(_logger: object, _method: str, event: EventDict) -> str:
    """Render a line like `ConsoleRenderer`, without colors or control characters."""
    text = str(event.pop("event", ""))
    words = [
        str(event.pop("timestamp", "")),
        f"[{event.pop('level', ''):<8}]",
        f"{text if text.isprintable() else repr(text)[1:-1]:<{_EVENT_WIDTH}}",
    ]
    traceback = event.pop("exception", None)
    words += [f"{name}={_quote(value)}" for name, value in event.items()]
    line = " ".join(words)
    return f"{line}\n{traceback}" if traceback else line


def _quote(value: object) -> str:
    """Quote a value that contains spaces or control characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if _is_plain(text) else repr(text)
