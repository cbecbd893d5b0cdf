"""Structured logs: for people on a console, for machines as one JSON object a line. No secret gets in."""

import asyncio
import atexit
import json
import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from functools import cache
from typing import Any, Literal, TextIO

import structlog

# What stands behind these, in an address or anywhere, lets its bearer in: API keys and browser tokens are the last two.
_BEARER_MARKS = ("/callbacks/nanobanana/", "access_token=", "nbg_", "nbt_")
_BEARERS = re.compile(rf"({'|'.join(_BEARER_MARKS)})[^/?&\s\"']+")
# Blotting out a shorter one would make the log unreadable and tell what it is.
_SHORTEST_SECRET = 6
_SECRET_NAMES = re.compile(r"authorization|api_key|secret|password|token", re.IGNORECASE)
_PLAIN = re.compile(r"[\w.:/+@~-]+")
_EVENT_WIDTH = 16


def configure_logs(log_format: Literal["console", "json"], level: str, secrets: list[str]) -> None:
    """Send all logs, the libraries' too, to standard error; `secrets` are blotted out wherever they turn up.

    Our own lines are written without the standard library's loggers, which take four times as long.
    """
    redact = Redactor(secrets)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, redact.hide_named]
    if log_format == "json":
        last.append(structlog.processors.JSONRenderer(ensure_ascii=False))
    elif sys.stderr.isatty():
        last.append(structlog.dev.ConsoleRenderer(colors=True))
    else:
        last.append(render_line)
    last.append(redact.clean_line)  # type: ignore[arg-type]  # after the renderer, which makes a line of the fields
    lines = LineWriter(sys.stderr)
    atexit.register(lines.flush)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
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


class LineWriter:
    """A logger that writes all lines of one turn of the event loop at once, and at once where there is no loop.

    Each write lets another thread take the interpreter, and getting it back costs a busy service more than the write.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._flushing_on: asyncio.AbstractEventLoop | None = None

    def msg(self, line: str) -> None:
        """Write a line."""
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._flushing_on is not loop:
            self._flushing_on = loop
            loop.call_soon(self.flush)

    debug = info = warning = error = critical = exception = msg

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            self._flushing_on = None
            lines, self._lines = self._lines, []
            if lines:
                # A full disk or a reader that has gone must cost the log alone, not the work that it tells of.
                with suppress(OSError):
                    self._file.write("\n".join([*lines, ""]))
                    self._file.flush()


class Redactor:
    """Blots out known secrets, bearer parts of addresses, and fields named like secrets."""

    def __init__(self, secrets: list[str]) -> None:
        # As they are and as renderers spell them. The longest first: one may be part of another.
        spelled = {form for s in secrets if len(s) >= _SHORTEST_SECRET for form in _spellings(s)}
        self._known = sorted(spelled, key=len, reverse=True)

    def hide_named(self, _logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Blot out the values of fields named like secrets."""
        for name in fields:
            if _is_secret_name(name):
                fields[name] = "***"
        return fields

    def clean_line(self, _logger: Any, _method: str, line: str) -> str:
        """Blot out secrets in a line as it will be written."""
        return self.clean(line)

    def clean(self, text: str) -> str:
        """Blot out secrets in a text."""
        # A look for plain parts costs far less than a pattern, and hardly any line has one.
        if any(mark in text for mark in _BEARER_MARKS):
            text = _BEARERS.sub(r"\1***", text)
        for secret in self._known:
            text = text.replace(secret, "***")
        return text


def _spellings(secret: str) -> set[str]:
    """Return a secret as it is and as it stands inside of a JSON string, of a representation, and of one in the other."""
    plain = {secret, repr(secret)[1:-1]}
    return plain | {json.dumps(text, ensure_ascii=False)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}


@cache
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def render_line(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
    """Write a log line for people who read a file: time, level, event, then the fields, a traceback below."""
    traceback = fields.pop("exception", None)
    begin = f"{fields.pop('timestamp')} [{fields.pop('level'):<8}] {fields.pop('event'):<{_EVENT_WIDTH}}"
    line = " ".join([begin, *(f"{name}={_quote(value)}" for name, value in fields.items())])
    return f"{line}\n{traceback}" if traceback else line


def _quote(value: Any) -> str:
    """Keep values apart from each other, and whatever is in them on one line."""
    text = value if isinstance(value, str) else repr(value)
    return text if _PLAIN.fullmatch(text) else repr(text)
