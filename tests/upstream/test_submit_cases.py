"""Replies to submits seen in the wild, with their outcomes."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.policy import MAX_RETRY_AFTER_MS
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode
from app.upstream.outcome import read_submit_reply

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "submit_cases.json").read_text())
WITHIN_MINUTES = datetime.now(UTC) + timedelta(hours=1)


def read(case: dict[str, Any]) -> SubmitOutcome:
    body = case["body"]
    headers = {
        name: value.replace("<HTTP date>", format_datetime(WITHIN_MINUTES, usegmt=True))
        for name, value in case.get("headers", {}).items()
    }
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return read_submit_reply(httpx.Response(case["status"], headers=headers, content=content))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_replies_have_the_right_outcome(case: dict[str, Any]) -> None:
    outcome, expected = read(case), case["expect"]
    if expected.startswith(("upstream paused", "paused")):
        assert isinstance(outcome, TryAgain)
        assert outcome.pauses_account
    elif expected.startswith("account held"):
        assert isinstance(outcome, AccountRefused)
        assert outcome.error.code is ErrorCode.INSUFFICIENT_CREDITS
    elif expected.startswith("outcome unknown"):
        assert isinstance(outcome, Unknown)
    elif expected.startswith("failed invalid_request"):
        assert isinstance(outcome, Refused)
        assert outcome.error.code is ErrorCode.INVALID_REQUEST
        said = json.dumps(case["body"])
        assert outcome.error.message in said
        assert len(outcome.error.message) > len("Unknown")
    else:
        assert outcome == Accepted("1234567890")


@pytest.mark.parametrize(("name", "pause"), [("with a fraction", 3_500), ("as date", MAX_RETRY_AFTER_MS)])
def test_retry_after_is_respected_for_minutes_at_most(name: str, pause: int) -> None:
    outcome = read(next(case for case in CASES if case["name"].endswith(name)))
    assert isinstance(outcome, TryAgain)
    assert outcome.retry_after == pause
