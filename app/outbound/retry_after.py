"""The `Retry-After` header (RFC 9110, section 10.2.3)."""

import email.utils
from datetime import UTC, datetime

_MAX_DIGITS = 9


def read_retry_after(text: str) -> int | None:
    """Parse seconds or a date to milliseconds from now; None if it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text.lstrip("0")[:_MAX_DIGITS] or "0") * 1000
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):  # the last for a year or zone with too many digits
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(round((aware - datetime.now(UTC)).total_seconds() * 1000), 0)
