"""Page limits, and cursors that encode the last ID."""

import base64
import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from app.errors import InvalidRequest

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

EmptyIsUnset = BeforeValidator(lambda value: None if value == "" else value)
"""For query parameters. An empty value counts as unset."""
Limit = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT, description="Maximum number of items to return."),
    BeforeValidator(lambda value: DEFAULT_LIMIT if value == "" else value),
]
CURSOR = "`next_cursor` of the previous page."


def encode_cursor(last_id: str | None) -> str | None:
    """Return the cursor of the page after this ID."""
    return None if last_id is None else base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, ids: re.Pattern[str]) -> str | None:
    """Return the ID in a cursor; raises `InvalidRequest`."""
    if cursor is None:
        return None
    try:
        last_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        last_id = ""
    if not ids.fullmatch(last_id):
        raise InvalidRequest.field("cursor", "is not a next_cursor of this list")
    return last_id
