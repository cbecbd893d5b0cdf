"""Structured logs: for people on a console, for machines as one JSON object a line. No secret gets in."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

# What stands behind these in a path or query lets its bearer in.
_BEARERS = re.compile(r"(/callbacks/nanobanana/|access_token=)[^/?&\s\"']+")
# Blotting out a shorter one would make the log unreadable and tell what it is.
_SHORTEST_SECRET = 6
_SECRET_NAMES = re.compile(r"authorization|api_key|secret|password|token", re.IGNORECASE)


def configure_logs(log_format: Literal["console", "json"], level: str, secrets: list[str]) -> None:
    """Send all logs, the libraries' too, to standard error; `secrets` are blotted out wherever they turn up."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    redact = Redactor(secrets)
    last: list[structlog.typing.Processor]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        colors = sys.stderr.isatty()
        last = [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer(colors=colors)]
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


class Redactor:
    """Blots out known secrets, bearer parts of addresses, and fields named like secrets."""

    def __init__(self, secrets: list[str]) -> None:
        telling = [re.escape(secret) for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        self._known = re.compile("|".join(telling)) if telling else None

    def __call__(self, _logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Process one log line's fields."""
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = "***" if _SECRET_NAMES.search(name) else self.clean(value)
        return fields

    def clean(self, text: str) -> str:
        """Blot out secrets in a text."""
        text = _BEARERS.sub(r"\1***", text)
        return self._known.sub("***", text) if self._known else text
