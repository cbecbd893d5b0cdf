"""Keeping secrets out of logs."""

import json
import re
from collections.abc import Iterable

from structlog.typing import EventDict, Processor, WrappedLogger

# What follows one of these, in a URL or elsewhere, grants access. The last two begin API keys and browser tokens.
_BEARER_MARKS = ("/callbacks/nanobanana/", "access_token=", "nbg_", "nbt_")
_BEARERS = re.compile(rf"({'|'.join(_BEARER_MARKS)})[^/?&\s\"']+")
# Masking a shorter secret would make the log unreadable and reveal the secret.
_SHORTEST_SECRET = 6
_SECRET_NAMES = re.compile(r"authorization|api_key|secret|password|token", re.IGNORECASE)
_MASK = "***"
# Field names known to be harmless. Names come from the code, so there are never so many.
_MAX_NAMES = 1_000
_KEPT_ON_FAILURE = ("timestamp", "level", "event", "request_id")


class RedactingRenderer:
    """The last processor: renders an event as a line without secrets.

    The finished line is redacted, because a secret can be anywhere: in the representation of a value, in a traceback,
    in the message of a library. A value that can't be rendered costs its own line, which then says so.
    """

    def __init__(self, render: Processor, redactor: "Redactor") -> None:
        self._render = render
        self._redactor = redactor

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Render an event."""
        self._redactor.mask_named(event)
        try:
            line = self._render(logger, method, dict(event))
        except Exception as error:  # noqa: BLE001 -- values are of any type, and their __repr__ may raise anything
            kept = {name: event[name] for name in _KEPT_ON_FAILURE if name in event}
            line = self._render(logger, method, {**kept, "line_failed": type(error).__name__})
        return self._redactor.mask(str(line))


class Redactor:
    """Masks known secrets, the secret part of URLs, and fields named like secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # As they are and as renderers spell them. The longest first: one may be part of another.
        spelled = {form for s in secrets if len(s) >= _SHORTEST_SECRET for form in _spellings(s)}
        self._known = sorted(spelled, key=len, reverse=True)
        self._harmless: set[str] = set()

    def mask_named(self, fields: EventDict) -> None:
        """Mask the values of fields named like secrets."""
        if not self._harmless.issuperset(fields):
            for name in fields:
                if _SECRET_NAMES.search(name):
                    fields[name] = _MASK
                elif len(self._harmless) < _MAX_NAMES:
                    self._harmless.add(name)

    def mask(self, text: str) -> str:
        """Mask secrets in a text."""
        # Searching for plain text costs far less than the pattern, and hardly any line has a match.
        if any(mark in text for mark in _BEARER_MARKS):
            text = _BEARERS.sub(rf"\1{_MASK}", text)
        for secret in self._known:
            text = text.replace(secret, _MASK)
        return text


def _spellings(secret: str) -> set[str]:
    """Return a secret plain, as in a JSON string, as in a `repr`, and as in one inside the other."""
    plain = {secret, repr(secret)[1:-1]}
    return plain | {json.dumps(text, ensure_ascii=False)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}
