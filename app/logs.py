"""Structured logs: console lines or one JSON object per line, with secrets redacted."""

import logging
import os
import re
import sys
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, TextIO

import structlog
from structlog.dev import Column, ColumnFormatter, ConsoleRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from app.redaction import RedactingRenderer, Redactor

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_is_plain = re.compile(r"[\w.:/+@~-]+").fullmatch
_EVENT_WIDTH = 16
_CHATTY = ("httpx", "httpcore", "aiosqlite", "sqlalchemy.engine", "alembic", "asyncio", "PIL")


def configure_logs(log_format: Literal["console", "json"], level: str, secrets: list[str]) -> None:
    """Send all logs, those of libraries included, to standard error without `secrets`."""
    output = Output(sys.stderr)
    shared: list[Processor] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render = RedactingRenderer(make_renderer(log_format, in_color=output.is_terminal), Redactor(secrets))
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=True,
    )
    handler = _LibraryHandler(output)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, render])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Uvicorn installs its own handlers unless told not to; its lines go the same way as ours.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # The service logs its own start and stop. Uvicorn's warnings and errors are kept.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.access").disabled = True


def bind_request_id(request_id: str) -> None:
    """Add this request id to every line logged from here on in this context."""
    _request_id.set(request_id)


def current_request_id() -> str:
    """Return the id of the current request, "" outside of one."""
    return _request_id.get()


class Output:
    """Writes each line before the call returns; a failing write costs the log only.

    It takes the place of `structlog.WriteLogger`, which raises when the disk is full, and whose lock isn't reentrant:
    objects that the garbage collector finalizes inside it may log. No lock is needed: a line is a single write, and
    the stream's buffer has a lock of its own.
    """

    def __init__(self, file: TextIO | None) -> None:
        # None if the process was started with standard error closed.
        self._file = file or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- open until the process ends

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self._file.isatty()

    def write(self, text: str) -> None:
        """Write text that ends with a newline."""
        # Errors of the system, of a closed stream, and of a signal handler that interrupts a write to write itself.
        with suppress(OSError, ValueError, RuntimeError):
            self._file.write(text)
            self._file.flush()

    def flush(self) -> None:
        """Nothing waits."""

    def msg(self, line: str) -> None:
        """Write a line; structlog calls this by the name of the level."""
        self.write(line + "\n")

    debug = info = warning = error = critical = msg


class _LibraryHandler(logging.StreamHandler[Output]):
    """Writes what libraries log through the standard library."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the standard library's name
        """Replace a line whose message can't be formatted; the default would print its arguments unredacted."""
        failed = logging.LogRecord(record.name, record.levelno, "", 0, "line_failed", (), None)
        self.stream.write(self.format(failed) + self.terminator)


def _add_request_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    if request_id := current_request_id():
        event["request_id"] = request_id
    return event


def make_renderer(log_format: Literal["console", "json"], *, in_color: bool) -> Processor:
    """Make the processor that turns an event into a line."""
    if log_format == "json":
        # `repr` shows bytes readably, and in a form in which secrets are found.
        return structlog.processors.JSONRenderer(default=repr, ensure_ascii=False)
    return ConsoleRenderer(columns=_columns(in_color=in_color), exception_formatter=structlog.dev.plain_traceback)


def _columns(*, in_color: bool) -> list[Column]:
    styles = ConsoleRenderer.get_default_column_styles(in_color)
    levels = ConsoleRenderer.get_default_level_styles(in_color)
    reset = styles.reset
    between = f"{reset}={styles.kv_value}"
    columns: dict[str, ColumnFormatter] = {
        "timestamp": lambda key, value: f"{styles.timestamp}{value}{reset}",
        "level": lambda key, value: f"[{levels.get(str(value), '')}{value!s:<8}{reset}]",
        "event": lambda key, value: f"{styles.bright}{_on_one_line(value):<{_EVENT_WIDTH}}{reset}",
        "": lambda key, value: f"{styles.kv_key}{key}{between}{_quote(value)}{reset}",
    }
    return [Column(key, formatter) for key, formatter in columns.items()]


def _on_one_line(event: object) -> str:
    text = str(event)
    return text if text.isprintable() else repr(text)[1:-1]


def _quote(value: object) -> str:
    """Keep values apart, on one line, and free of control characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if _is_plain(text) else repr(text)
