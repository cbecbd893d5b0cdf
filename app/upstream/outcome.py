"""Reads the replies to submits and polls."""

import re
from datetime import UTC, datetime
from typing import Any

import httpx

from app.domain.policy import MAX_RETRY_AFTER_MS
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Report, TaskError, Unanswered, Unreadable
from app.upstream.bodies import object_in, parse_object
from app.upstream.fields import envelope_code, names_task, task_id
from app.upstream.reasons import find_reason, page_title
from app.upstream.reports import read_record_info
from app.upstream.retry_after import read_retry_after

_UNAUTHORIZED, _PAYMENT_REQUIRED, _REQUEST_TIMEOUT, _TOO_MANY = 401, 402, 408, 429
_BAD_GATEWAY, _UNAVAILABLE, _GATEWAY_TIMEOUT, _SWITCHED_OFF = 502, 503, 504, 505
_CLIENT_ERRORS, _SERVER_ERRORS = range(400, 500), range(500, 600)
# They only name another address. After 302 and 303, the request may have been carried out.
_REDIRECTS = {301, 307, 308}
# The vendor's codes about the request itself. Its other codes and the error pages of intermediaries have other causes.
_REQUEST_CODES = {400, 404, 406, 409, 410, 413, 414, 415, 422, 451}
_KEY_LIMIT, _MAINTENANCE = 433, 455
_ACCOUNT_CODES = {
    _UNAUTHORIZED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    _PAYMENT_REQUIRED: ErrorCode.INSUFFICIENT_CREDITS,
    _KEY_LIMIT: ErrorCode.INSUFFICIENT_CREDITS,
}
_UNWELL_CODES = {_KEY_LIMIT, _MAINTENANCE}
# Sent with 400 and other codes, too. Compared in lower case, with single blanks between words.
_NO_CREDITS = re.compile(
    r"""
    \b(insufficient|not\ enough|(don\ t|do\ not|doesn\ t|does\ not)\ have\ (enough|sufficient)|out\ of)\ (\w+\ ){0,2}
      (credits?(?!\ cards?)|balance|quota|funds)\b
    | \bno\ (more\ |remaining\ |available\ )?(credits?(?!\ cards?)|balance|quota|funds)\b
    | \b(credits?|balance|quota|funds)\ (\w+\ ){0,3}(insufficient|not\ enough|not\ sufficient|too\ low|exhausted|depleted|used\ up)\b
    | (余额|积分|额度|点数|餘額|積分|額度|點數)\w{0,2}(不足|不够|不夠|用完|用尽|用盡|耗尽|耗盡) | 欠费 | 欠費
    """,
    re.VERBOSE,
)
# With 429, it may be the quota of a minute.
_QUOTA_EXCEEDED = re.compile(r"\b(quota|credit limit) (has been |was |is )?exceeded\b|\bexceeded (\w+ ){1,2}quota\b")
_WORD_BREAKS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")


def read_submit_reply(response: httpx.Response) -> SubmitOutcome:
    """Judge a reply by its body's `code` or the status.

    Only a code about the request, in the vendor's own envelope, rejects the task. A rejection for any other reason is
    temporary. A response that doesn't show what happened to the task (a 502 or 504, an unreadable 200) is `Unknown`.
    """
    status = response.status_code
    body = _body_of(response)
    holders = [object_in(body.get("data")), body] if body else []
    given_code = envelope_code(body) if body else None
    code = given_code if given_code is not None else status
    is_about_request = given_code in _REQUEST_CODES
    if names_task(*holders) and not is_about_request:
        # Even if the reply reports an error, a task with this id exists and can be polled.
        upstream_id = task_id(*holders)
        return Accepted(upstream_id) if upstream_id else Unknown(f"The reply ({code}) has a task id of unknown format.")

    message = _reason_in(response, *reversed(holders)) or f"The upstream responded with {code} and no reason."
    account_error = _ACCOUNT_CODES.get(code)
    if given_code in _CLIENT_ERRORS and not names_task(*holders) and _is_out_of_credits(message, code):
        account_error = ErrorCode.INSUFFICIENT_CREDITS
    if account_error is not None:
        return AccountRefused(TaskError(account_error, message, str(code)))
    if status in {_BAD_GATEWAY, _GATEWAY_TIMEOUT} or code in {_BAD_GATEWAY, _GATEWAY_TIMEOUT, _REQUEST_TIMEOUT}:
        return Unknown(f"An intermediary gateway responded with {code}: {message}")
    if is_about_request:
        return Refused(TaskError(ErrorCode.INVALID_REQUEST, message, str(code)))
    error = TaskError(ErrorCode.UPSTREAM_ERROR, message, str(code))
    pause = _retry_after(response, body)
    # The address redirects or belongs to another service, or the vendor is in maintenance.
    is_redirect = given_code is None and status in _REDIRECTS
    if is_redirect or code in _CLIENT_ERRORS or code in {_UNAVAILABLE, _SWITCHED_OFF}:
        return TryAgain(error, pause, pauses_account=True)
    if given_code in _SERVER_ERRORS:
        # This may be about this task alone; only several in a row are an outage.
        return TryAgain(error, pause, pauses_account=pause is not None)
    return Unknown(f"The upstream responded with HTTP {status} and neither a task id nor an error.")


def read_poll_reply(response: httpx.Response, polled_id: str | None = None) -> Report | Unanswered:
    """Read a reply from record-info."""
    body = _body_of(response)
    report = read_record_info(body, polled_id) if body is not None else None
    if report is not None and not isinstance(report, Unreadable):
        return report
    given_code = envelope_code(body) if body else None
    code = given_code if given_code is not None else response.status_code
    if code == _TOO_MANY or code in _SERVER_ERRORS or code in _UNWELL_CODES:
        reason = f"record-info responded with {code}."
        return Unanswered(reason, _retry_after(response, body), is_clear=code in {_TOO_MANY, _UNAVAILABLE})
    if report is not None:
        return report
    title = page_title(response.content)
    said = f": {title}" if title else " and no JSON object."
    return Unreadable(f"record-info responded with HTTP {response.status_code}{said}")


def _is_out_of_credits(message: str, code: int) -> bool:
    plain = _WORD_BREAKS.sub(" ", message).lower()
    return bool(_NO_CREDITS.search(plain) or (code != _TOO_MANY and _QUOTA_EXCEEDED.search(plain)))


def _body_of(response: httpx.Response) -> dict[str, Any] | None:
    return parse_object(response.content, response.headers.get("Content-Type", ""))


def _reason_in(response: httpx.Response, *holders: dict[str, Any]) -> str:
    return find_reason(*holders) or page_title(response.content)


def _retry_after(response: httpx.Response, body: dict[str, Any] | None) -> int | None:
    pause = read_retry_after(response.headers.get("Retry-After"), body, datetime.now(UTC))
    return None if pause is None else min(pause, MAX_RETRY_AFTER_MS)
