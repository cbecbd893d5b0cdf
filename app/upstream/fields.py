"""Reads single fields of the upstream's messages."""

import re
import unicodedata
from typing import Any

_TASK_ID_KEYS = ("taskId", "task_id")
# The vendor's task ids have 32 hex digits; other plain tokens are accepted, too.
_TASK_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TASK_ID_BOUND = 10**18
_NUMBER = re.compile(r"-?\d{1,9}(\.0{1,9})?", re.ASCII)
_NUMBER_BOUND = 10**9
_OK = 200
_MAX_CODE_CHARACTERS = 32


def number(value: object) -> int | None:
    """Read an integer, even from a float or string.

    Returns None for anything else and for numbers beyond nine digits.
    """
    if isinstance(value, str):
        return int(float(value)) if _NUMBER.fullmatch(value := value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _NUMBER_BOUND:
        return None
    return int(value) if value == int(value) else None


def envelope_code(body: dict[str, Any]) -> int | None:
    """Read an envelope's `code`, which may be `true` for 200."""
    code = body.get("code")
    return _OK if code is True else number(code)


def code_text(value: object) -> str | None:
    """Read an error code; None for 0 or nothing."""
    code = number(value)
    if code is not None:
        return str(code) if code else None
    if not isinstance(value, str):
        return None
    return clean(value[: 4 * _MAX_CODE_CHARACTERS]).strip()[:_MAX_CODE_CHARACTERS].strip() or None


def task_id(*holders: dict[str, Any]) -> str | None:
    """Return the first upstream task id found in the holders."""
    for holder in holders:
        for key in _TASK_ID_KEYS:
            found = holder.get(key)
            if isinstance(found, int) and not isinstance(found, bool) and 0 < found < _TASK_ID_BOUND:
                return str(found)
            if isinstance(found, str) and _TASK_ID.fullmatch(found := found.strip()):
                return found
    return None


def names_task(*holders: dict[str, Any]) -> bool:
    """Whether there is a task id, valid or not."""
    return any(holder.get(key) for holder in holders for key in _TASK_ID_KEYS)


def clean(text: str) -> str:
    """Remove control characters and lone surrogates."""
    # Databases and terminals reject them.
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})
