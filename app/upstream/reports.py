"""Reads the upstream's reports about tasks: callbacks (shapes A and B) and record-info.

The bodies are untrusted: numbers may be strings, fields may move, and anything else becomes `Unreadable`, never an
exception.
"""

import json
import re
import unicodedata
from typing import Any

from app.domain.verdict import ErrorCode, Failed, Generating, Report, Succeeded, TaskError, Unreadable
from app.upstream import wire

# Keys of results, observed or likely; the vendor does not document the shape for several images.
_RESULT_KEYS = ("resultImageUrl", "resultImageUrls", "result_urls", "resultUrls")
# Also observed for results, but some replies use them for inputs: only if there is nothing else.
_LAST_RESORT_KEYS = ("imageUrl", "imageUrls")
_POLICY_WORDS = re.compile(
    r"polic(y|ies)|prohibit|sensitive|safety|nsfw|moderation|violat|flagged|inappropriate",
    re.IGNORECASE,
)
_TASK_ID_KEYS = ("taskId", "task_id")
# The vendor's task ids have 32 hex digits; other plain tokens are accepted, too.
_TASK_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# White space, control characters, surrogates, and characters invalid in URLs.
_INVALID = r"\s\"<>\\\x00-\x20\x7f-\x9f\ud800-\udfff"
_URL = re.compile(
    rf"https?://([^{_INVALID}/?#]*@)?(\[[0-9a-f:.]+\]|[^{_INVALID}/?#@:\[\]]+)(:\d{{0,5}})?([/?#][^{_INVALID}]*)?",
    re.IGNORECASE,
)
_MAX_URL_CHARACTERS = 4096
_MAX_IMAGES = 16
# Longer than the final length: secrets are removed before the text is cut, see `scrub.py`.
_MAX_MESSAGE_CHARACTERS = 4000
_NUMBER_BOUND = 10**9
_CONTENT_REFUSED, _GENERATION_FAILED, _OK = 400, 501, 200
_CLIENT_ERRORS, _SERVER_ERRORS = range(400, 500), range(500, 600)


def parse_object(raw: bytes | str) -> dict[str, Any] | None:
    """Parse a JSON object; None for anything else, including extreme nesting and numbers."""
    parsed = _parse(raw)
    return parsed if isinstance(parsed, dict) else None


def _parse(raw: bytes | str) -> Any:
    """Parse JSON in any encoding, including lone surrogates; None for anything else."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def number(value: object) -> int | None:
    """Read an integer, possibly given as a string; None if it is neither, or too long."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < _NUMBER_BOUND else None
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", value):
        return int(value)
    return None


def words(*candidates: object) -> str:
    """Return the first non-empty text, truncated and printable."""
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            return clean(candidate.strip()[: 2 * _MAX_MESSAGE_CHARACTERS])[:_MAX_MESSAGE_CHARACTERS]
    return ""


def clean(text: str) -> str:
    """Remove control characters and lone surrogates, which databases and terminals reject."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})


def task_id(*holders: dict[str, Any]) -> str | None:
    """Find the upstream's task id in the first holder that has one."""
    for holder in holders:
        for key in _TASK_ID_KEYS:
            found = holder.get(key)
            if isinstance(found, str) and _TASK_ID.fullmatch(found):
                return found
    return None


def names_task(*holders: dict[str, Any]) -> bool:
    """Whether there is a task id, even one that `task_id` rejects."""
    return any(holder.get(key) for holder in holders for key in _TASK_ID_KEYS)


def image_urls(*holders: object) -> tuple[str, ...]:
    """Collect http(s) result URLs from all known places, in order, each once."""
    for keys in (_RESULT_KEYS, _LAST_RESORT_KEYS):
        given = [holder[key] for holder in holders if isinstance(holder, dict) for key in keys if holder.get(key)]
        found = dict.fromkeys(url for value in given for url in _urls_in(value))
        if found:
            return tuple(found)[:_MAX_IMAGES]
    return ()


def _urls_in(value: object) -> list[str]:
    """Read a string, a list, a comma-separated string or a JSON string of URLs."""
    if isinstance(value, list):
        return [url for item in value if isinstance(item, str) for url in _urls_in(item)]
    if not isinstance(value, str):
        return []
    text = value.strip()
    if text.startswith(("[", '"')):
        parsed = _parse(text)
        listed = parsed if isinstance(parsed, list) else [parsed]
        return [url for item in listed if isinstance(item, str) for url in _split(item)]
    return _split(text)


def _split(text: str) -> list[str]:
    if "," not in text:
        return [text] if _is_http_url(text) else []
    # A comma separates two URLs only where the next begins: URLs may contain commas.
    parts = (part.strip(" ,") for part in re.split(r",\s*(?=https?://|$)", text, flags=re.IGNORECASE))
    return [part for part in parts if _is_http_url(part)]


def _is_http_url(text: str) -> bool:
    return len(text) <= _MAX_URL_CHARACTERS and _URL.fullmatch(text) is not None


def read_callback(raw: bytes) -> Report:
    """Read a callback's body, in shape A (generate, generate-pro) or shape B (generate-2)."""
    body = parse_object(raw)
    if body is None:
        return Unreadable("The body is not a JSON object.")
    data = object_in(body.get("data"))
    if data.get("successFlag", body.get("successFlag")) is not None:
        return _read_record(body, data)
    return _read_shape_a(body, data)


def read_record_info(body: dict[str, Any]) -> Report:
    """Read a record-info reply. Without a flag it says nothing: new tasks return 404 at first."""
    data = object_in(body.get("data"))
    if data.get("successFlag", body.get("successFlag")) is not None:
        return _read_record(body, data)
    return Unreadable(
        f"record-info reported no result: {body.get('code')} {words(body.get('msg'), body.get('message'))}"
    )


def _read_shape_a(body: dict[str, Any], data: dict[str, Any]) -> Report:
    code = number(body.get("code"))
    upstream_id = task_id(data, body)
    if code == _OK:
        info = object_in(data.get("info"))
        return _success(upstream_id, image_urls(info, data, object_in(data.get("response")), body))
    if code is None or not (code in _CLIENT_ERRORS or code in _SERVER_ERRORS):
        return Unreadable("The body has neither a known code nor a successFlag.", upstream_id)
    message = words(body.get("msg"), body.get("message"), data.get("errorMessage"))
    if code == _CONTENT_REFUSED or _POLICY_WORDS.search(message):
        our_code = ErrorCode.CONTENT_POLICY
    elif code in _SERVER_ERRORS and code != _GENERATION_FAILED:
        our_code = ErrorCode.UPSTREAM_ERROR
    else:
        our_code = ErrorCode.GENERATION_FAILED
    return _failure(upstream_id, our_code, message, code)


def _read_record(body: dict[str, Any], data: dict[str, Any]) -> Report:
    """Judge by `successFlag`: the envelope's code is only about the request."""
    record = data if "successFlag" in data else body
    flag = number(record.get("successFlag"))
    upstream_id = task_id(record, data, body)
    if flag == wire.FLAG_GENERATING:
        return Generating(upstream_id)
    if flag == wire.FLAG_SUCCESS:
        return _success(
            upstream_id, image_urls(object_in(record.get("response")), object_in(record.get("info")), record)
        )
    if flag not in {wire.FLAG_CREATE_FAILED, wire.FLAG_GENERATE_FAILED}:
        return Unreadable("The successFlag is none of the documented ones.", upstream_id)
    vendor_code = number(record.get("errorCode")) or None
    message = words(record.get("errorMessage"))
    refused = vendor_code == _CONTENT_REFUSED or _POLICY_WORDS.search(message)
    our_code = ErrorCode.CONTENT_POLICY if refused else ErrorCode.GENERATION_FAILED
    return _failure(upstream_id, our_code, message, vendor_code if vendor_code is not None else flag)


def _success(upstream_id: str | None, urls: tuple[str, ...]) -> Report:
    if upstream_id is None:
        return Unreadable("The success has no taskId.")
    if not urls:
        return Unreadable("The success has no http(s) image URL.", upstream_id)
    return Succeeded(upstream_id, urls)


def _failure(upstream_id: str | None, code: ErrorCode, message: str, vendor_code: int) -> Failed:
    text = message or "The upstream gave no reason."
    return Failed(upstream_id, TaskError(code, text, str(vendor_code)))


def object_in(value: object) -> dict[str, Any]:
    """Read an object, possibly given as a JSON string; empty if it is neither."""
    if isinstance(value, str):
        return parse_object(value) or {}
    return value if isinstance(value, dict) else {}
