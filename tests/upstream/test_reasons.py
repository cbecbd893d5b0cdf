"""Finding the upstream's reasons, content refusals and pauses."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from app.upstream.content_policy import is_content_refusal
from app.upstream.reasons import find_reason, page_title, words
from app.upstream.retry_after import read_retry_after

WORDS = "Image 1 has an unsupported type: image/heic"


@pytest.mark.parametrize(
    "body",
    [
        {"msg": WORDS},
        {"message": WORDS},
        {"error": WORDS},
        {"error": {"code": 400, "message": WORDS, "status": "INVALID_ARGUMENT"}, "code": 400},
        {"error": {"error": {"message": WORDS}}},
        {"detail": WORDS},
        {"detail": {"msg": WORDS}},
        {"errorMessage": WORDS},
        {"failMsg": WORDS},
        {"error_message": WORDS},
        {"msg": {"message": WORDS}},
        {"msg": '{"error": {"message": "' + WORDS + '"}}'},
        {"msg": [WORDS]},
        {"msg": "success", "errorMessage": WORDS},
        {"msg": "error", "detail": WORDS},
        {"message": "Bad Request", "error": {"message": WORDS}},
        {"error": True, "msg": f"  {WORDS}\x00\n"},
        {"errors": [{"message": WORDS}]},
        {"message": f"<html><head><title>\n {WORDS} </title></head></html>"},
    ],
)
def test_the_reason_is_found_in_any_field(body: dict[str, Any]) -> None:
    assert find_reason(body) == WORDS


def test_validation_errors_name_their_fields() -> None:
    detail = [
        {"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"},
        {"loc": ["body", "imageUrls", 0], "msg": "Invalid URL", "type": "value_error"},
    ]
    assert find_reason({"detail": detail}) == "prompt: Field required; Invalid URL"


@pytest.mark.parametrize(
    ("holders", "reason"),
    [
        ([{"errorMessage": None}, {"msg": WORDS}], WORDS),
        ([{"errorMessage": "a"}, {"msg": "b"}], "a"),
        ([{"errorMessage": "Failed"}, {"msg": WORDS}], WORDS),
        ([{"errorMessage": "Failed"}, {"msg": "success"}], "Failed"),
        ([{"errorMessage": 0}, {"msg": "success"}], ""),
        ([{"errorMessage": []}, {"msg": {}}], ""),
        ([{}], ""),
    ],
)
def test_the_most_informative_holder_wins(holders: list[dict[str, Any]], reason: str) -> None:
    assert find_reason(*holders) == reason


def test_reasons_are_limited() -> None:
    deep: Any = WORDS
    for _ in range(900):
        deep = {"error": deep}
    assert find_reason({"error": deep}) == ""
    assert len(find_reason({"msg": ["x" * 10_000] * 10_000})) <= 4000
    assert words("\ud800a\x00b") == "ab"


def test_the_title_of_a_page() -> None:
    assert page_title(b"<!doctype html><TITLE lang=en>502 &amp; Bad\n Gateway</TITLE>") == "502 & Bad Gateway"
    assert page_title(b"<html>no title") == page_title(b"\xff" * 100) == page_title(b"<title" * 200_000) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Your prompt was flagged as unsafe",
        "Your content was flagged by Website as violating content policies.",
        "PUBLIC_ERROR_UNSAFE_GENERATION",
        "prompt_unsafe",
        "blocked by the content filter",
        "finishReason: PROHIBITED_CONTENT",
        "finishReason: IMAGE_SAFETY",
        "promptFeedback.blockReason: OTHER",
        "Nudity detected",
        "IMAGE_RECITATION",
        "BLOCKLIST",
        "SPII",
        "NSFW content",
        "moderation_blocked",
        "content_policy_violation",
        "Your request was rejected as a result of our safety system.",
        "The input or output was flagged as sensitive. Please try again. (E005)",
        "contains sensitive words",
        "Violates our policies",
        "The prompt violates the policy",
        "This request violates Google's Generative AI Prohibited Use policy",
        "HARM_CATEGORY_SEXUALLY_EXPLICIT",
        "prompt contains inappropriate words",
        "copyrighted characters are not allowed",
        "内容违规",
        "提示词包含敏感词",
        "图片涉嫌色情",
        "您的内容违反了内容政策",
        "审核未通过",
        "內容違規",
        "不適切なコンテンツが検出されました",
        "콘텐츠 정책 위반",
        "La solicitud tiene contenido inapropiado",
        "Violation de la politique de contenu",
        "Verstoß gegen die Inhaltsrichtlinien",
        "Обнаружен недопустимый контент",
    ],
)
def test_refusals_of_content(text: str) -> None:
    assert is_content_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Generation failed",
        "The input image violates the size limit",
        "aspect_ratio violates the schema",
        "imageUrls violates the constraint of 8 items",
        "Case-sensitive parameter model",
        "time-sensitive request expired",
        "Flagged for retry",
        "The bucket's policy denies access",
        "Retry policy exhausted",
        "Rate limit policy exceeded",
        "moderation service unavailable",
        "safety check timed out",
        "unsafe URL",
        "Your IP is on the blocklist",
        "Inappropriate content type",
        "Access prohibited",
        "request blocked by firewall",
        "prompt rejected: too long",
        "image was rejected: unsupported type",
        "Content-Type must be image/png",
        "The content length exceeds the limit",
        "Insufficient credits",
        "参数大小写敏感",
        "违反大小限制",
        "参数不合规",
        "图片不合规格",
        "积分不足",
    ],
)
def test_other_reasons_with_similar_words(text: str) -> None:
    assert not is_content_refusal(text)


@pytest.mark.parametrize(
    "text",
    ["violates the ", "prompt ", "a", "内容", "flagged for the content ", "safety ", "contains ", "is as be ", "含"],
)
def test_hostile_words_take_little_time(text: str) -> None:
    began = time.thread_time()
    is_content_refusal(text * 100_000)
    assert time.thread_time() - began < 3


NOW = datetime(2026, 1, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "milliseconds"),
    [
        ("7", 7_000),
        (" 3.5 ", 3_500),
        ("0", 0),
        ("-5", 0),
        ("30s", 30_000),
        ("999999999", 3_600_000),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90_000),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("Tue, 06 Jan 2026 00:01:30", 90_000),
        ("99999999999999999999", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("1e9", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999", None),
    ],
)
def test_retry_after_in_the_header(header: str | None, milliseconds: int | None) -> None:
    assert read_retry_after(header, None, NOW) == milliseconds
    assert read_retry_after(header, {"retryAfter": 2}, NOW) == (2_000 if milliseconds is None else milliseconds)


@pytest.mark.parametrize(
    ("body", "milliseconds"),
    [
        ({"retryAfter": 7}, 7_000),
        ({"retryAfter": 1.5}, 1_500),
        ({"retryAfter": "1.5"}, 1_500),
        ({"retry_after": "17s"}, 17_000),
        ({"retry-after": "250ms"}, 250),
        ({"data": {"retryAfter": 7}}, 7_000),
        ({"data": '{"retryAfter": 7}'}, 7_000),
        ({"error": {"retryDelay": "4s"}}, 4_000),
        ({"retryAfter": None, "data": {"retryAfter": 7}}, 7_000),
        ({"retryAfter": True}, None),
        ({"retryAfter": []}, None),
        ({"retryAfter": float("nan")}, None),
        ({"retryAfter": float("inf")}, None),
        ({"retryAfter": 10**400}, None),
        ({"retryAfter": -3}, 0),
        ({}, None),
    ],
)
def test_retry_after_in_the_body(body: dict[str, Any], milliseconds: int | None) -> None:
    assert read_retry_after(None, body, NOW) == milliseconds
