"""The `Retry-After` header (RFC 9110, section 10.2.3)."""

import email.utils
from datetime import UTC, datetime

_LONGEST_NUMBER = 9


def read_retry_after(text: str) -> int | None:
    """Read seconds or a date; returns milliseconds from now, None for neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text.lstrip("0")[:_LONGEST_NUMBER] or "0") * 1000
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):  # the last for a year or a zone of any length
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(round((aware - datetime.now(UTC)).total_seconds() * 1000), 0)
