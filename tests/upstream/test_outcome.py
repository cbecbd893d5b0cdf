"""What a reply to a submit means.

Submits cost money: a task that may have been accepted is never sent again.
"""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Failed, TaskError, Unanswered, Unreadable
from app.upstream.outcome import read_poll_reply, read_submit_reply

ID = "0123456789abcdef0123456789abcdef"
WITH_ID = {"data": {"taskId": ID}}


def read(status: int, body: Any = b"", **headers: str) -> SubmitOutcome:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_submit_reply(httpx.Response(status, content=content, headers=headers))


def envelope(code: Any, **more: Any) -> dict[str, Any]:
    return {"code": code, "msg": "words", **more}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"code": 200, "msg": "success", **WITH_ID}),
        (200, {"code": "200", "message": "success", **WITH_ID}),
        (200, WITH_ID),
        (200, {"taskId": ID}),
        (200, {"code": 200, "data": {"task_id": ID}}),
        (200, {"code": 200, "data": json.dumps({"taskId": ID})}),
        (201, WITH_ID),
        (500, {"code": 200, **WITH_ID}),
        (502, WITH_ID),
        (504, envelope(504, **WITH_ID)),
        (302, WITH_ID),
        (408, envelope(408, **WITH_ID)),
        (200, envelope(429, **WITH_ID)),
        (429, envelope(429, **WITH_ID)),
        (200, envelope(500, **WITH_ID)),
        (503, envelope(503, **WITH_ID)),
        (200, envelope(401, **WITH_ID)),
        (402, envelope(402, **WITH_ID)),
        (200, envelope(600, **WITH_ID)),
        (200, envelope(200, data={"taskId": f" {ID} "})),
        (200, [envelope(200, **WITH_ID)]),
    ],
)
def test_a_reply_with_a_task_id_is_an_acceptance(status: int, body: Any) -> None:
    assert read(status, body) == Accepted(ID)


@pytest.mark.parametrize("code", [200, 402, 429, 500])
def test_a_task_id_may_be_a_number(code: int) -> None:
    assert read(200, envelope(code, data={"taskId": 1234567890})) == Accepted("1234567890")


@pytest.mark.parametrize("code", [400, 404, 413, 422, 451])
@pytest.mark.parametrize("form", ["status and envelope", "envelope", "string"])
def test_rejected_requests(code: int, form: str) -> None:
    status, body = {
        "status and envelope": (code, envelope(code)),
        "envelope": (200, envelope(code)),
        "string": (200, envelope(str(code))),
    }[form]
    outcome = read(status, body)
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.upstream_code) == (ErrorCode.INVALID_REQUEST, str(code))
    assert outcome.error.message == "words"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, ErrorCode.UPSTREAM_UNAUTHORIZED),
        (402, ErrorCode.INSUFFICIENT_CREDITS),
        (433, ErrorCode.INSUFFICIENT_CREDITS),
    ],
)
def test_rejected_accounts(code: int, error: ErrorCode) -> None:
    for outcome in (read(code), read(code, envelope(code)), read(200, envelope(code)), read(200, envelope(f"{code}"))):
        assert isinstance(outcome, AccountRefused)
        assert (outcome.error.code, outcome.error.upstream_code) == (error, str(code))


@pytest.mark.parametrize(
    "words", ["Insufficient credits", "Your account has not enough credits.", "out of credits", "insufficient balance"]
)
@pytest.mark.parametrize("code", [400, 403, 422, 429])
def test_missing_credits_never_reject_the_request(words: str, code: int) -> None:
    outcome = read(code, {"code": code, "msg": words})
    assert isinstance(outcome, AccountRefused)
    assert (outcome.error.code, outcome.error.upstream_code) == (ErrorCode.INSUFFICIENT_CREDITS, str(code))


@pytest.mark.parametrize(
    "words",
    [
        "Insufficient credit",
        "Credits insufficient: The current credits balance is insufficient. Please top up.",
        "Your credits are insufficient",
        "Your credit balance is too low",
        "You don't have enough credits",
        "No credits remaining",
        "You have used your free tier: quota has been exhausted",
        "insufficient_user_quota",
        "insufficientCredits",
        "Quota exceeded",
        "You exceeded your current quota, please check your plan and billing details",
        "账户余额不足",
        "积分不足",
        "额度已用完",
    ],
)
def test_missing_credits_are_recognized_in_other_words_and_languages(words: str) -> None:
    outcome = read(400, {"code": 400, "msg": words})
    assert isinstance(outcome, AccountRefused)
    assert outcome.error == TaskError(ErrorCode.INSUFFICIENT_CREDITS, words, "400")


@pytest.mark.parametrize(
    "words",
    [
        "The prompt names a credit card",
        "no credit card numbers",
        "too long",
        "no color balance parameter",
        "The white balance is unknown",
        "The file size limit was exceeded",
    ],
)
def test_other_messages_about_credits_reject_the_request(words: str) -> None:
    assert isinstance(read(400, {"code": 400, "msg": words}), Refused)


def test_a_quota_per_minute_is_a_rate_limit() -> None:
    assert isinstance(read(429, {"code": 429, "msg": "Quota exceeded for requests per minute"}), TryAgain)


def test_the_envelope_takes_precedence_over_the_status() -> None:
    assert isinstance(read(400, envelope(429)), TryAgain)
    assert isinstance(read(500, envelope(400)), Refused)
    assert isinstance(read(429, envelope(402)), AccountRefused)


@pytest.mark.parametrize(
    ("status", "body", "pauses"),
    [
        (429, b"", True),
        (429, b"<html>", True),
        (429, envelope(429), True),
        (200, envelope(429), True),
        (200, envelope("429"), True),
        (503, b"<html>", True),
        (503, envelope(503), True),
        (200, envelope(503), True),
        (200, envelope(505, data={}), True),
        (200, envelope(455), True),
        (455, envelope(455), True),
        (200, envelope(403), True),
        (301, b"", True),
        (307, b"", True),
        (308, b"<html>", True),
        (400, b"<html>", True),
        (405, b"<html>", True),
        (407, b"<html>", True),
        (403, b"<html>", True),
        (404, {"detail": "Not Found"}, True),
        (413, b"", True),
        (200, envelope(500, retryAfter=2), True),
        (200, envelope(500), False),
        (500, envelope(500), False),
        (500, envelope("500", data=None), False),
        (500, envelope(500, data={"taskId": None}), False),
        (500, envelope(500, data={"taskId": ""}), False),
        (200, envelope(501, data={}), False),
    ],
)
def test_temporary_rejections_are_retried(status: int, body: Any, pauses: bool) -> None:
    outcome = read(status, body)
    assert isinstance(outcome, TryAgain)
    assert outcome.error.code is ErrorCode.UPSTREAM_ERROR
    assert outcome.pauses_account is pauses


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html>bad gateway"),
        (502, envelope(502)),
        (502, envelope(500)),
        (502, envelope(429)),
        (504, b""),
        (504, envelope(503)),
        (200, envelope(502)),
        (200, envelope(504)),
        (408, b""),
        (200, envelope(408)),
        (500, b"<html>"),
        (500, {"error": "no envelope"}),
        (500, {"code": "E_INTERNAL"}),
        (520, b""),
        (302, b""),
        (303, b""),
        (304, b""),
        (200, envelope(301)),
        (204, b""),
        (200, b""),
        (200, b"<html>"),
        (200, b"\xff\xfe\x00"),
        (200, b"[" * 100_000),
        (200, b"null"),
        (200, []),
        (200, {}),
        (200, envelope(200)),
        (200, envelope(200, data=None)),
        (200, envelope(200, data={"taskId": None})),
        (200, envelope(200, data={"taskId": "not an id"})),
        (503, envelope(200)),
        (200, envelope(500, data={"taskId": "not an id"})),
        (200, envelope(0)),
        (200, envelope(999)),
        (200, envelope(10**400)),
    ],
)
def test_everything_else_is_unknown(status: int, body: Any) -> None:
    assert isinstance(read(status, body), Unknown)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("7", 7_000),
        (" 7 ", 7_000),
        ("0", 0),
        ("-5", 0),
        ("999999", 300_000),
        ("99999999999999999999", None),
        ("1.5", 1_500),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300_000),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 300_000),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999", None),
        ("Wed, 99 Foo 2015", None),
    ],
)
def test_retry_after_is_limited(value: str, milliseconds: int | None) -> None:
    outcome = read(429, envelope(429), **{"Retry-After": value})
    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after == milliseconds


@pytest.mark.parametrize(("value", "milliseconds"), [(7, 7_000), (1.5, 1_500), ("7", 7_000), (None, None), ([], None)])
def test_retry_after_in_the_body(value: Any, milliseconds: int | None) -> None:
    outcome = read(429, envelope(429, retryAfter=value))
    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after == milliseconds


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    outcome = read(503, b"", **{"Retry-After": date})
    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after is not None
    assert 90_000 < outcome.retry_after <= 100_000


@pytest.mark.parametrize(
    ("status", "body", "is_clear"),
    [
        (429, b"", True),
        (200, {"code": 429, "msg": "slow"}, True),
        (503, b"<html>", True),
        (500, {"code": 500, "msg": "?"}, False),
        (502, b"<html>", False),
        (521, b"", False),
        (200, {"code": 455, "msg": "maintenance"}, False),
    ],
)
def test_polls_that_find_the_upstream_unhealthy(status: int, body: Any, is_clear: bool) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    report = read_poll_reply(httpx.Response(status, content=content, headers={"Retry-After": "3"}))
    assert isinstance(report, Unanswered)
    assert (report.is_clear, report.retry_after) == (is_clear, 3_000)


@pytest.mark.parametrize(("code", "kind"), [(401, Unreadable), (404, Unreadable), (429, Unanswered), (503, Unanswered)])
@pytest.mark.parametrize("place", ["envelope", "data"])
def test_an_error_reply_to_a_poll_does_not_fail_the_task(code: int, kind: type, place: str) -> None:
    words = {"taskId": ID, "status": "failed"}
    body = {"code": code, "msg": "not now", **(words if place == "envelope" else {"data": words})}
    assert isinstance(read_poll_reply(httpx.Response(code, json=body), ID), kind)


@pytest.mark.parametrize("code", [200, 400, 500, 501])
def test_a_state_of_failed_in_a_result_fails_the_task(code: int) -> None:
    body = {"code": code, "msg": "no luck", "data": {"taskId": ID, "status": "failed"}}
    assert isinstance(read_poll_reply(httpx.Response(200, json=body), ID), Failed)


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (404, b""), (404, b'{"code":404,"msg":"no such task"}')]
)
def test_polls_without_information_are_still_answers(status: int, body: bytes) -> None:
    assert isinstance(read_poll_reply(httpx.Response(status, content=body)), Unreadable)


_CODES = st.sampled_from([200, 400, 401, 402, 404, 408, 429, 500, 501, 502, 503, 504])
_STRANGE = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "code": _CODES | _CODES.map(str) | _STRANGE,
        "msg": _STRANGE,
        "message": _STRANGE,
        "data": st.fixed_dictionaries({}, optional={"taskId": _STRANGE}) | _STRANGE,
    },
)
_STATUSES = _CODES | st.integers(200, 599)


@given(_STATUSES, _BODIES)
def test_a_task_with_an_upstream_id_is_never_sent_again(status: int, body: dict[str, Any]) -> None:
    outcome = read(status, {**body, "data": {"taskId": ID}})
    assert not isinstance(outcome, TryAgain | AccountRefused)


@given(st.sampled_from([502, 504]), _BODIES, st.booleans())
def test_an_intermediate_gateways_answer_is_never_retried(
    code: int, body: dict[str, Any], is_in_envelope: bool
) -> None:
    outcome = read(200, {**body, "code": code}) if is_in_envelope else read(code, body)
    assert not isinstance(outcome, TryAgain)


@given(st.integers(100, 599), st.binary(), st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_any_reply_can_be_read(status: int, raw: bytes, retry_after: str) -> None:
    read(status, raw, **{"Retry-After": retry_after})


@given(_STATUSES, _BODIES)
def test_errors_can_be_stored(status: int, body: dict[str, Any]) -> None:
    match read(status, body):
        case Refused(error) | AccountRefused(error) | TryAgain(error):
            assert error.message.strip()
            assert "\x00" not in error.message.encode().decode()
            assert len(error.upstream_code or "") <= 32
        case Unknown(reason):
            assert "\x00" not in reason.encode().decode()
