"""Reads how long the upstream asks us to wait."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from app.upstream.bodies import object_in

_MAX_MS = 3_600_000
_KEYS = {"retryafter", "retrydelay"}
_MAX_FIELDS = 64
_NUMBER_BOUND = 10**9
_DURATION = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?)\s*(ms|milliseconds?|s|secs?|seconds?)?", re.ASCII | re.IGNORECASE)


def read_retry_after(header: str | None, body: dict[str, Any] | None, now: datetime) -> int | None:
    """Return the milliseconds to wait; None if not specified.

    The limit is one hour. Seconds may have a fraction or a unit; the header may also be a date.
    """
    duration = _duration(header or "")
    if duration is None and header:
        duration = _until(header.strip(), now)
    if duration is None and body is not None:
        duration = next((found for found in map(_duration, _values_in(body)) if found is not None), None)
    return None if duration is None else int(min(max(duration, 0), _MAX_MS))


def _values_in(body: dict[str, Any]) -> list[object]:
    """List the waits in an envelope, its data and error."""
    holders = [body, object_in(body.get("data")), object_in(body.get("error"))]
    fields = (field for holder in holders for field in list(holder.items())[:_MAX_FIELDS])
    return [value for key, value in fields if re.sub(r"[_-]", "", key).lower() in _KEYS]


def _duration(value: object) -> float | None:
    """Convert seconds, or text with a unit, to milliseconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        return float(value) * 1000 if abs(value) < _NUMBER_BOUND else None
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        return None
    return float(found[1]) * (1 if (found[2] or "").lower().startswith("m") else 1000)


def _until(date: str, now: datetime) -> float | None:
    """Return the milliseconds until an HTTP date."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):  # the latter for an offset of days
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - now).total_seconds() * 1000
