"""Cursors of lists: the id after which the next page begins, wrapped so that nobody takes it for one."""

import base64
import binascii
import re

from app.errors import InvalidRequest


def encode_cursor(last_id: str | None) -> str | None:
    """Wrap the last id of a page; None, on the last page, stays None."""
    return None if last_id is None else base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, ids: re.Pattern[str]) -> str | None:
    """Unwrap an id; raises `InvalidRequest` for anything that is not a cursor of a list of such ids."""
    if cursor is None:
        return None
    try:
        last_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (ValueError, binascii.Error):
        last_id = ""
    if not ids.fullmatch(last_id):
        raise InvalidRequest(
            "Some parameters are wrong.", [{"field": "cursor", "message": "is not a cursor of this list"}]
        )
    return last_id
