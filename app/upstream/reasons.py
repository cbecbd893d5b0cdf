"""Finds the reason for a failure in the upstream's messages."""

import html
import re
from typing import Any

from app.upstream.bodies import parse_json
from app.upstream.fields import clean

# Compared in lowercase and without underscores. The first one with text wins.
_KEYS = ("errormessage", "errormsg", "failmsg", "failreason", "msg", "message", "error", "detail", "details", "reason")
_MORE_KEYS = ("errors", "description", "title")
# Longer than the final length, because secrets are removed before the text is truncated (see `scrub.py`).
_MAX_MESSAGE_CHARACTERS = 4000
_MAX_DEPTH = 5
_MAX_ITEMS = 5
_MAX_FIELDS = 64
# These describe the call, not the task.
_NO_REASON = re.compile(r"(ok|success\w*|null|none|undefined|true|false)\W*", re.IGNORECASE)
# These count only if there is nothing else.
_VAGUE = re.compile(r"(error|fail(ed|ure)?|bad request|unknown( error)?|internal( server)? error)\W*", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,500})", re.IGNORECASE)
_MAX_PAGE_CHARACTERS = 65_536


def find_reason(*holders: dict[str, Any]) -> str:
    """Return the first reason found; "" if there is none."""
    texts = [text for holder in holders for text in _texts_in(holder, _MAX_DEPTH)]
    return next((text for text in texts if not _VAGUE.fullmatch(text)), texts[0] if texts else "")


def page_title(page: bytes) -> str:
    """Return the title of an HTML page, or ""."""
    found = _TITLE.search(page[:_MAX_PAGE_CHARACTERS].decode(errors="replace"))
    return words(" ".join(html.unescape(found[1]).split())) if found else ""


def words(text: object) -> str:
    """Return a truncated, printable text; "" for other types."""
    if not isinstance(text, str):
        return ""
    return clean(text.strip()[: 2 * _MAX_MESSAGE_CHARACTERS]).strip()[:_MAX_MESSAGE_CHARACTERS]


def _texts_in(holder: dict[str, Any], depth: int) -> list[str]:
    """Return an object's texts, the most informative key first."""
    plain = {key.replace("_", "").lower(): value for key, value in list(holder.items())[:_MAX_FIELDS]}
    texts = (_text_of(plain.get(key), depth - 1) for key in (*_KEYS, *_MORE_KEYS))
    return [text for text in texts if text and not _NO_REASON.fullmatch(text)]


def _text_of(value: object, depth: int) -> str:
    """Find text in a string, object, list, or encoded JSON."""
    if depth == 0:
        return ""
    if isinstance(value, str):
        text = value.strip()
        parsed = parse_json(text) if text[:1] in {"{", "["} else None
        title = page_title(text.encode(errors="replace")) if text[:1] == "<" else ""
        return _text_of(parsed, depth - 1) or title or words(text)
    if isinstance(value, dict):
        # FastAPI's errors name the field in `loc`.
        match value.get("loc"):
            case [*_, str(field)]:
                pass
            case _:
                field = ""
        text = next(iter(_texts_in(value, depth)), "")
        return words(f"{field}: {text}" if field and text else text)
    if isinstance(value, list):
        return words("; ".join(filter(None, (_text_of(item, depth - 1) for item in value[:_MAX_ITEMS]))))
    return ""
