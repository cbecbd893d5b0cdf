"""Reads the upstream's reports about tasks in callbacks and record-info.

The bodies are untrusted. Numbers may be strings and fields may move. Anything else becomes `Unreadable`, never an
exception.
"""

from typing import Any

from app.domain.verdict import ErrorCode, Failed, Generating, Report, Succeeded, TaskError, Unreadable
from app.upstream import wire
from app.upstream.bodies import object_in, parse_object
from app.upstream.content_policy import is_content_refusal
from app.upstream.fields import code_text, envelope_code, number, task_id
from app.upstream.image_urls import find_image_urls
from app.upstream.reasons import find_reason

_CONTENT_REFUSED, _GENERATION_FAILED, _OK = 400, 501, 200
_ERRORS, _SERVER_ERRORS = range(400, 600), range(500, 600)
# With any other code, a "failed" is about the call: a rate limit, the key, an overload.
_TASK_ERRORS = {_CONTENT_REFUSED, 500, _GENERATION_FAILED}
_ERROR_CODE_KEYS = ("errorCode", "error_code", "failCode")
# The vendor's sister service has a word instead of a flag.
_STATE_KEYS = ("state", "taskStatus", "status")
_STATES = {
    "success": wire.FLAG_SUCCESS,
    "succeeded": wire.FLAG_SUCCESS,
    "completed": wire.FLAG_SUCCESS,
    "fail": wire.FLAG_GENERATE_FAILED,
    "failed": wire.FLAG_GENERATE_FAILED,
    "generate_failed": wire.FLAG_GENERATE_FAILED,
    "create_task_failed": wire.FLAG_CREATE_FAILED,
    "waiting": wire.FLAG_GENERATING,
    "queuing": wire.FLAG_GENERATING,
    "queued": wire.FLAG_GENERATING,
    "pending": wire.FLAG_GENERATING,
    "processing": wire.FLAG_GENERATING,
    "generating": wire.FLAG_GENERATING,
}


def read_callback(raw: bytes, content_type: str = "") -> Report:
    """Read a callback's body.

    It has shape A (generate, generate-pro) or shape B (generate-2).
    """
    body = parse_object(raw, content_type)
    if body is None:
        return Unreadable("The body is not a JSON object.")
    data = object_in(body.get("data"))
    record = _record_in(body, data)
    if record is not None:
        return _read_record(body, record, task_id(record, data, body))
    return _read_shape_a(body, data)


def read_record_info(body: dict[str, Any], polled_id: str | None = None) -> Report:
    """Read a record-info reply, which may omit `polled_id`.

    Without a flag or a result, it is `Unreadable`. New tasks return 404 at first.
    """
    data = object_in(body.get("data"))
    record = _record_in(body, data)
    upstream_id = task_id(data, body) or polled_id
    if record is not None and not _is_about_call(body, record):
        return _read_record(body, record, task_id(record) or upstream_id)
    urls = find_image_urls(body, last_resort=False) if envelope_code(body) in {None, _OK} else ()
    if urls and upstream_id:
        return Succeeded(upstream_id, urls)
    return Unreadable(f"record-info reported no result: {body.get('code')} {find_reason(body)}")


def _record_in(body: dict[str, Any], data: dict[str, Any]) -> dict[str, Any] | None:
    """Return the object with the task's state, if any."""
    for record in (data, body):
        if record.get("successFlag") is not None:
            return record
    # A "status" without a task id may be that of the call.
    return next((record for record in (data, body) if task_id(record) and _state_flag(record) is not None), None)


def _is_about_call(body: dict[str, Any], record: dict[str, Any]) -> bool:
    code = envelope_code(body)
    is_word = record.get("successFlag") is None
    return is_word and code in _ERRORS and code not in _TASK_ERRORS


def _state_flag(record: dict[str, Any]) -> int | None:
    words = (record.get(key) for key in _STATE_KEYS)
    flags = (_STATES.get(word.strip().lower()) for word in words if isinstance(word, str))
    return next((flag for flag in flags if flag is not None), None)


def _flag(body: dict[str, Any], record: dict[str, Any]) -> int | None:
    """Read `successFlag` in any type, or the state instead."""
    flag = record.get("successFlag")
    if flag is None:
        return _state_flag(record)
    if isinstance(flag, str) and flag.strip().lower() in {"true", "false"}:
        flag = flag.strip().lower() == "true"
    if isinstance(flag, bool):
        # False has been seen for unfinished and for failed tasks.
        has_failed = _error_code(record) or find_reason(record) or envelope_code(body) in _ERRORS
        return wire.FLAG_SUCCESS if flag else wire.FLAG_GENERATE_FAILED if has_failed else wire.FLAG_GENERATING
    found = number(flag)
    return _STATES.get(flag.strip().lower()) if found is None and isinstance(flag, str) else found


def _read_shape_a(body: dict[str, Any], data: dict[str, Any]) -> Report:
    code = envelope_code(body)
    upstream_id = task_id(data, body)
    if code == _OK:
        return _success(body, upstream_id)
    if code is None and upstream_id and (urls := find_image_urls(body, last_resort=False)):
        return Succeeded(upstream_id, urls)
    if code not in _ERRORS:
        return Unreadable("The body has neither a known code nor a successFlag.", upstream_id)
    is_internal = code in _SERVER_ERRORS and code != _GENERATION_FAILED
    our_code = ErrorCode.UPSTREAM_ERROR if is_internal else ErrorCode.GENERATION_FAILED
    vendor_code = str(code)
    return _failure(upstream_id, our_code, find_reason(body, data), vendor_code, _error_code(data))


def _read_record(body: dict[str, Any], record: dict[str, Any], upstream_id: str | None) -> Report:
    """Judge by `successFlag`."""
    flag = _flag(body, record)
    if flag == wire.FLAG_GENERATING:
        return Generating(upstream_id)
    if flag == wire.FLAG_SUCCESS:
        return _success(body, upstream_id)
    if flag not in {wire.FLAG_CREATE_FAILED, wire.FLAG_GENERATE_FAILED}:
        return Unreadable("The successFlag is not a documented value.", upstream_id)
    # The envelope's code is about the request, so it only counts if it is an error, too.
    code = envelope_code(body)
    vendor_code = _error_code(record) or (str(code) if code in _ERRORS else None)
    return _failure(upstream_id, ErrorCode.GENERATION_FAILED, find_reason(record, body), vendor_code or str(flag))


def _error_code(record: dict[str, Any]) -> str | None:
    codes = (code_text(record.get(key)) for key in _ERROR_CODE_KEYS)
    return next(filter(None, codes), None)


def _success(body: dict[str, Any], upstream_id: str | None) -> Report:
    urls = find_image_urls(body)
    if upstream_id and urls:
        return Succeeded(upstream_id, urls)
    missing = "http(s) image URL" if upstream_id else "taskId"
    said = find_reason(object_in(body.get("data")), body)
    reason = f"The upstream reported a success without {missing}."
    return Unreadable(f"{reason} It says: {said}" if said else reason, upstream_id, is_success=True)


def _failure(
    upstream_id: str | None, our_code: ErrorCode, reason: str, vendor_code: str, detail_code: str | None = None
) -> Failed:
    """Return a failure, recognizing content refusals."""
    is_refusal = vendor_code == str(_CONTENT_REFUSED) or any(
        is_content_refusal(text) for text in (reason, vendor_code, detail_code) if text
    )
    code = ErrorCode.CONTENT_POLICY if is_refusal else our_code
    return Failed(upstream_id, TaskError(code, reason or "The upstream gave no reason.", vendor_code))
