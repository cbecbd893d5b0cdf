"""Reads the reply to a submit: accepted, rejected or unknown."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, TaskError
from app.upstream.bodies import object_in, parse_object
from app.upstream.fields import names_task, number, task_id
from app.upstream.reasons import words

_UNAUTHORIZED, _PAYMENT_REQUIRED, _REQUEST_TIMEOUT, _TOO_MANY = 401, 402, 408, 429
_BAD_GATEWAY, _UNAVAILABLE, _GATEWAY_TIMEOUT = 502, 503, 504
_CLIENT_ERRORS, _SERVER_ERRORS = range(400, 500), range(500, 600)
# Not rejections of the task: with a task id in the reply, it was accepted.
_TEMPORARY_CODES = {_UNAUTHORIZED, _PAYMENT_REQUIRED, _REQUEST_TIMEOUT, _TOO_MANY}
_MAX_RETRY_AFTER_SECONDS = 3600
_ACCOUNT_CODES = {
    _UNAUTHORIZED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    _PAYMENT_REQUIRED: ErrorCode.INSUFFICIENT_CREDITS,
}


def read_submit_reply(response: httpx.Response) -> SubmitOutcome:
    """Judge a reply by its body's `code`, or by the HTTP status without one.

    The vendor's own envelope without a task id means that the vendor rejected the task. A response of an intermediary
    (a 502 or 504, an unreadable 200, a redirect) says nothing about the task: that is `Unknown`.
    """
    status = response.status_code
    body = parse_object(response.content)
    holders = [object_in(body.get("data")), body] if body else []
    upstream_id = task_id(*holders)
    envelope_code = number(body.get("code")) if body else None
    code = envelope_code if envelope_code is not None else status
    if upstream_id and not (code in _CLIENT_ERRORS and code not in _TEMPORARY_CODES):
        # Whatever else the reply says, a task with this id exists and can be polled.
        return Accepted(upstream_id)
    if (code in _TEMPORARY_CODES or code in _SERVER_ERRORS) and names_task(*holders):
        return Unknown(f"The upstream responded with {code} and a task id of unknown format.")

    text = words(body.get("msg")) or words(body.get("message")) if body else ""
    message = text or f"The upstream responded with {code} and no reason."
    if code in _ACCOUNT_CODES:
        return AccountRefused(TaskError(_ACCOUNT_CODES[code], message, str(code)))
    if status in {_BAD_GATEWAY, _GATEWAY_TIMEOUT} or code in {_BAD_GATEWAY, _GATEWAY_TIMEOUT, _REQUEST_TIMEOUT}:
        return Unknown(f"An intermediary gateway responded with {code}: {message}")
    if code == _TOO_MANY:
        error = TaskError(ErrorCode.UPSTREAM_ERROR, message, str(code))
        return TryAgain(error, _retry_after(response), pauses_account=True)
    if code == _UNAVAILABLE or (envelope_code in _SERVER_ERRORS):
        return TryAgain(TaskError(ErrorCode.UPSTREAM_ERROR, message, str(code)), _retry_after(response))
    if code in _CLIENT_ERRORS:
        return Refused(TaskError(ErrorCode.INVALID_REQUEST, message, str(code)))
    return Unknown(f"The upstream responded with HTTP {status} and neither a task id nor an error.")


def _retry_after(response: httpx.Response) -> int | None:
    """Read `Retry-After` (seconds or a date) in milliseconds, capped; None if absent or invalid."""
    value = response.headers.get("Retry-After", "").strip()
    seconds: float | None = number(value)
    if seconds is None and value:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # the latter for an offset of days
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - datetime.now(UTC)).total_seconds()
    if seconds is None:
        return None
    return int(min(max(seconds, 0), _MAX_RETRY_AFTER_SECONDS) * 1000)
