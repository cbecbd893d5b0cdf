"""JSON encoding for database columns."""

from typing import Any

import msgspec

loads = msgspec.json.decode


def dumps(value: Any) -> str:
    """Encode a value for a JSON column."""
    return msgspec.json.encode(value).decode()
