"""Reads the replies to submits and polls."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.domain.policy import MAX_RETRY_AFTER_MS
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Report, TaskError, Unanswered, Unreadable
from app.upstream.reports import names_task, number, object_in, parse_object, read_record_info, task_id, words

_UNAUTHORIZED, _PAYMENT_REQUIRED, _REQUEST_TIMEOUT, _TOO_MANY = 401, 402, 408, 429
_BAD_GATEWAY, _UNAVAILABLE, _GATEWAY_TIMEOUT, _SWITCHED_OFF = 502, 503, 504, 505
_CLIENT_ERRORS, _SERVER_ERRORS = range(400, 500), range(500, 600)
# What the vendor says about the request itself. Its other codes, and pages of intermediaries, are about something else.
_REQUEST_CODES = {400, 404, 406, 409, 410, 413, 414, 415, 422, 451}
_ACCOUNT_CODES = {
    _UNAUTHORIZED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    _PAYMENT_REQUIRED: ErrorCode.INSUFFICIENT_CREDITS,
}
# Of the vendor's service, not of the request: a key's limit, maintenance.
_UNWELL_CODES = {433, 455}
_SECONDS = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
# Sent with 400 and other codes, too.
_NO_CREDITS = re.compile(
    r"\b(insufficient|not enough|out of|no|no more)\W+(\w+\W+){0,2}(credits|balance|quota|funds)\b", re.IGNORECASE
)


def read_submit_reply(response: httpx.Response) -> SubmitOutcome:
    """Judge a reply by its body's `code`, or by the HTTP status without one.

    Only a code about the request, in the vendor's own envelope, rejects the task. A rejection for any other reason is
    temporary. A response that says nothing about the task (a 502 or 504, an unreadable 200, a redirect) is `Unknown`.
    """
    status = response.status_code
    body = parse_object(response.content)
    holders = [object_in(body.get("data")), body] if body else []
    envelope_code = number(body.get("code")) if body else None
    code = envelope_code if envelope_code is not None else status
    is_about_request = envelope_code in _REQUEST_CODES
    if names_task(*holders) and not is_about_request:
        # Whatever else the reply says, a task with this id exists and can be polled.
        upstream_id = task_id(*holders)
        return Accepted(upstream_id) if upstream_id else Unknown(f"The reply ({code}) has a task id of unknown format.")

    text = words(body.get("msg"), body.get("message")) if body else ""
    message = text or f"The upstream responded with {code} and no reason."
    account_error = _ACCOUNT_CODES.get(code)
    if is_about_request and not names_task(*holders) and _NO_CREDITS.search(message):
        account_error = ErrorCode.INSUFFICIENT_CREDITS
    if account_error is not None:
        return AccountRefused(TaskError(account_error, message, str(code)))
    if status in {_BAD_GATEWAY, _GATEWAY_TIMEOUT} or code in {_BAD_GATEWAY, _GATEWAY_TIMEOUT, _REQUEST_TIMEOUT}:
        return Unknown(f"An intermediary gateway responded with {code}: {message}")
    if is_about_request:
        return Refused(TaskError(ErrorCode.INVALID_REQUEST, message, str(code)))
    error = TaskError(ErrorCode.UPSTREAM_ERROR, message, str(code))
    pause = retry_after(response, body)
    if code in _CLIENT_ERRORS or code in {_UNAVAILABLE, _SWITCHED_OFF}:
        return TryAgain(error, pause, pauses_account=True)
    if envelope_code in _SERVER_ERRORS:
        # Perhaps about this task alone: only several in a row are an outage.
        return TryAgain(error, pause, pauses_account=pause is not None)
    return Unknown(f"The upstream responded with HTTP {status} and neither a task id nor an error.")


def read_poll_reply(response: httpx.Response) -> Report | Unanswered:
    """Read a reply of record-info."""
    body = parse_object(response.content)
    report = read_record_info(body) if body is not None else None
    if report is not None and not isinstance(report, Unreadable):
        return report
    envelope_code = number(body.get("code")) if body else None
    code = envelope_code if envelope_code is not None else response.status_code
    if code == _TOO_MANY or code in _SERVER_ERRORS or code in _UNWELL_CODES:
        reason = f"record-info responded with {code}."
        return Unanswered(reason, retry_after(response, body), is_clear=code in {_TOO_MANY, _UNAVAILABLE})
    return report or Unreadable(f"record-info responded with HTTP {response.status_code} and no JSON object.")


def retry_after(response: httpx.Response, body: dict[str, Any] | None) -> int | None:
    """Read `Retry-After` or `retryAfter` as milliseconds; None if invalid."""
    value = response.headers.get("Retry-After", "").strip() or str((body or {}).get("retryAfter") or "").strip()
    seconds: float | None = float(value) if _SECONDS.fullmatch(value) else None
    if seconds is None and value:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # the latter for an offset of days
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - datetime.now(UTC)).total_seconds()
    if seconds is None:
        return None
    return int(min(max(seconds * 1000, 0), MAX_RETRY_AFTER_MS))
