"""Keeps secrets out of logs."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache

from structlog.typing import EventDict, Processor, WrappedLogger

# Secrets follow these prefixes: in queries, in API keys and in browser tokens.
_BEARER_PREFIXES = ("access_token=", "nbg_", "nbt_")
_BEARERS = re.compile(rf"({'|'.join(_BEARER_PREFIXES)})[^/?&\s\"']+")
# The secret part of a callback's token, after a task id and a dash. The pattern starts with the dash for speed, because
# few lines have many. Truncated tokens are masked as well: they are nearly as valuable as whole ones. Trace ids are
# followed by fewer characters.
_CALLBACK_SECRET = re.compile(r"-(?<=[0-9A-Fa-f]{32}-)[A-Za-z0-9_-]{20,}")
_ENCODED_CALLBACK_SECRET = re.compile(
    r"((?:[0-9A-Fa-f]|%(?:25)*(?:3[0-9]|[46][1-6])){32})(?:-|%(?:25)*2[Dd])"
    r"(?:[A-Za-z0-9_-]|%(?:25)*[2-7][0-9A-Fa-f]){20,}"
)
# Masking a shorter secret would make the log unreadable and reveal the secret.
_MIN_SECRET_CHARACTERS = 6
_SECRET_NAMES = re.compile(r"authorization|api_key|secret|password|token", re.IGNORECASE)
_MASK = "***"
_KEPT_ON_FAILURE = ("timestamp", "level", "event", "request_id")


class RedactingRenderer:
    """The last processor. Renders events as lines without secrets.

    It redacts the finished line because a secret can be anywhere: in a value's `repr`, in a traceback, in a library's
    message. If a value can't be rendered, the line is written without its fields.
    """

    def __init__(self, render: Processor, secrets: Iterable[str]) -> None:
        self._render = render
        spellings = {form for s in secrets if len(s) >= _MIN_SECRET_CHARACTERS for form in _spellings(s)}
        # Longest first, because one secret may be part of another.
        self._secrets = sorted(spellings, key=len, reverse=True)

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Render an event."""
        event = {name: _MASK if _is_secret(name) else value for name, value in event.items()}
        try:
            line = str(self._render(logger, method, dict(event)))
        except Exception as error:  # noqa: BLE001 -- a value's __repr__ may raise anything
            kept = {name: event[name] for name in _KEPT_ON_FAILURE if name in event}
            line = str(self._render(logger, method, {**kept, "line_failed": type(error).__name__}))
        if any(prefix in line for prefix in _BEARER_PREFIXES):
            line = _BEARERS.sub(rf"\1{_MASK}", line)
        line = _CALLBACK_SECRET.sub(f"-{_MASK}", line)
        if "%" in line:
            line = _ENCODED_CALLBACK_SECRET.sub(rf"\1-{_MASK}", line)
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        return line


@lru_cache(maxsize=1_000)
def _is_secret(name: str) -> bool:
    """Whether a field is named like a secret."""
    return _SECRET_NAMES.search(name) is not None


def _spellings(secret: str) -> set[str]:
    """Return a secret verbatim and escaped by JSON and `repr`."""
    plain = {secret, repr(secret)[1:-1]}
    return plain | {json.dumps(text, ensure_ascii=False)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}
