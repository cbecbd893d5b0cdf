"""Reading callbacks and records, in known and hostile shapes."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdict import ErrorCode, Failed, Generating, Report, Succeeded, Unreadable
from app.upstream.reports import read_callback, read_record_info

ID = "0123456789abcdef0123456789abcdef"
ONE, TWO = "https://tempfile.example/1.png", "https://tempfile.example/2.png"
TEXT_COLUMN_OF_CODES = 32


def callback(body: Any) -> Report:
    return read_callback(json.dumps(body).encode())


def shape_a(code: Any, message: str = "m", **data: Any) -> dict[str, Any]:
    return {"code": code, "msg": message, "data": {"taskId": ID, **data}}


def record(flag: Any, **data: Any) -> dict[str, Any]:
    filled = {"taskId": ID, "response": None, "errorCode": None, "errorMessage": None, "successFlag": flag, **data}
    return {"code": 200, "msg": "success", "data": filled}


def outcome(report: Report) -> Any:
    match report:
        case Succeeded(upstream_id, urls):
            assert upstream_id == ID
            return urls
        case Failed(_, error):
            return error.code, error.message, error.upstream_code
    return type(report)


PRODUCTION_RECORD = {
    "code": 200,
    "msg": "success",
    "data": {
        "taskId": ID,
        "paramJson": '{"numImages":1,"prompt":"p","type":"TEXTTOIAMGE"}',
        "createTime": "2026-01-06 08:16:56",
        "completeTime": "2026-01-06 24:00:00",
        "response": {"originImageUrl": None, "resultImageUrl": ONE},
        "successFlag": 1,
        "errorCode": None,
        "errorMessage": None,
        "operationType": "nanobanana_TEXTTOIAMGE",
    },
}

SUCCESSES: dict[str, Any] = {
    "shape A": shape_a(200, "Image generated successfully.", info={"resultImageUrl": ONE}),
    "shape A, code as a string": shape_a("200", info={"resultImageUrl": ONE}),
    "shape B, as seen in production": PRODUCTION_RECORD,
    "flag as a string": record("1", response={"resultImageUrl": ONE}, errorCode="0", errorMessage=""),
    "error code 0": record(1, response={"resultImageUrl": ONE}, errorCode=0),
    "everything at the top level": {"taskId": ID, "successFlag": 1, "response": {"resultImageUrl": ONE}},
    "data.imageUrl": record(1, imageUrl=ONE),
    "data as a JSON string": {"code": 200, "data": json.dumps({"taskId": ID, "info": {"resultImageUrl": ONE}})},
    "flag as a boolean": record(flag=True, response={"resultImageUrl": ONE}),
    "flag as a float": record(1.0, response={"resultImageUrl": ONE}),
    "flag as a word": record("SUCCESS", response={"resultImageUrl": ONE}),
    "code as a boolean": shape_a(code=True, info={"resultImageUrl": ONE}),
    "no code at all": {"data": {"taskId": ID, "info": {"resultImageUrl": ONE}}},
    "the sister service's state": {
        "code": 200,
        "data": {"taskId": ID, "state": "success", "resultJson": json.dumps({"resultUrls": [ONE]}), "failMsg": ""},
    },
    "response as a JSON string": record(1, response=json.dumps({"resultImageUrl": ONE})),
}


@pytest.mark.parametrize("shape", SUCCESSES)
def test_every_shape_of_success_is_understood(shape: str) -> None:
    assert outcome(callback(SUCCESSES[shape])) == (ONE,)


@pytest.mark.parametrize(
    "value",
    [
        [ONE, TWO],
        f"{ONE},{TWO}",
        f"{ONE}, {TWO}",
        f" {ONE} , {TWO} ,",
        json.dumps([ONE, TWO]),
        [json.dumps([ONE]), TWO],
        [ONE, "", "  ", None, 7, ONE, TWO, TWO],
        [f"{ONE},{TWO}", ONE],
        ["ftp://x.example/a", "javascript:alert(1)", "https://", "https:///a", "http://[x/", "/a.png", ONE, TWO],
    ],
)
@pytest.mark.parametrize("key", ["resultImageUrl", "resultImageUrls", "result_urls", "resultUrls"])
def test_several_images_are_read_in_order_and_once_in_any_shape(key: str, value: Any) -> None:
    assert outcome(callback(shape_a(200, info={key: value}))) == (ONE, TWO)
    assert outcome(callback(record(1, response={key: value}))) == (ONE, TWO)
    assert outcome(read_record_info(record(1, response={key: value}))) == (ONE, TWO)


def test_one_image_as_a_json_string() -> None:
    assert outcome(callback(shape_a(200, info={"resultImageUrl": json.dumps(ONE)}))) == (ONE,)


def test_a_comma_inside_a_url_does_not_split_it() -> None:
    url = "https://x.example/a,b.png?size=1,2"
    assert outcome(callback(shape_a(200, info={"resultImageUrl": f"{url},{ONE}"}))) == (url, ONE)


def test_the_image_that_expires_in_minutes_is_used_only_if_there_is_no_other() -> None:
    assert outcome(callback(record(1, response={"originImageUrl": TWO, "resultImageUrl": ONE}))) == (ONE,)
    assert outcome(callback(record(1, response={"originImageUrl": TWO, "resultImageUrl": None}))) == (TWO,)
    assert outcome(callback(record(1, response={"originImageUrl": TWO}, imageUrl=ONE))) == (TWO,)


FAILURES: list[tuple[Any, tuple[ErrorCode, str, str]]] = [
    (shape_a(400, "Rejected.", info={"resultImageUrl": ""}), (ErrorCode.CONTENT_POLICY, "Rejected.", "400")),
    (shape_a("400", "Rejected."), (ErrorCode.CONTENT_POLICY, "Rejected.", "400")),
    (shape_a(500, "Internal", info={"resultImageUrl": ""}), (ErrorCode.UPSTREAM_ERROR, "Internal", "500")),
    (shape_a(501, "Failed", info={"resultImageUrl": ""}), (ErrorCode.GENERATION_FAILED, "Failed", "501")),
    (shape_a(501, "Violates our policies"), (ErrorCode.CONTENT_POLICY, "Violates our policies", "501")),
    (
        {"code": 501, "message": "Pro says it so", "data": None},
        (ErrorCode.GENERATION_FAILED, "Pro says it so", "501"),
    ),
    (record(2, errorMessage="m"), (ErrorCode.GENERATION_FAILED, "m", "2")),
    (record(3, errorMessage="m"), (ErrorCode.GENERATION_FAILED, "m", "3")),
    (record("3", errorCode="500", errorMessage="m"), (ErrorCode.GENERATION_FAILED, "m", "500")),
    (record(3, errorCode=0, errorMessage=""), (ErrorCode.GENERATION_FAILED, "The upstream gave no reason.", "3")),
    (record(3, errorCode=400, errorMessage="m"), (ErrorCode.CONTENT_POLICY, "m", "400")),
    (record(3, errorCode="400", errorMessage="m"), (ErrorCode.CONTENT_POLICY, "m", "400")),
    (record(3, errorMessage="NSFW content"), (ErrorCode.CONTENT_POLICY, "NSFW content", "3")),
    (record(flag=False, errorMessage="m"), (ErrorCode.GENERATION_FAILED, "m", "3")),
    (record(3, errorCode="E005"), (ErrorCode.GENERATION_FAILED, "The upstream gave no reason.", "E005")),
    (
        record(3, errorCode="PROHIBITED_CONTENT"),
        (ErrorCode.CONTENT_POLICY, "The upstream gave no reason.", "PROHIBITED_CONTENT"),
    ),
    ({**record(3), "msg": "No face found"}, (ErrorCode.GENERATION_FAILED, "No face found", "3")),
    ({**record(3), "code": 501, "msg": "No face found"}, (ErrorCode.GENERATION_FAILED, "No face found", "501")),
    ({"code": 501, "error": {"message": "No face found"}}, (ErrorCode.GENERATION_FAILED, "No face found", "501")),
    (
        {"code": 200, "data": {"taskId": ID, "state": "fail", "failCode": "422", "failMsg": "No face found"}},
        (ErrorCode.GENERATION_FAILED, "No face found", "422"),
    ),
    (record(2, errorMessage="Flagged as sensitive"), (ErrorCode.CONTENT_POLICY, "Flagged as sensitive", "2")),
]


@pytest.mark.parametrize(("body", "expected"), FAILURES)
def test_every_failure_gets_its_code_and_the_vendors_message(body: Any, expected: tuple[ErrorCode, str, str]) -> None:
    assert outcome(callback(body)) == expected


def test_a_failure_needs_no_task_id() -> None:
    assert outcome(callback({"code": 400, "msg": "no"})) == (ErrorCode.CONTENT_POLICY, "no", "400")


@pytest.mark.parametrize(
    "body",
    [
        record(0),
        record("0"),
        record(flag=False),
        {"successFlag": 0, "taskId": ID},
        {"code": 200, "data": {"taskId": ID, "state": "generating"}},
    ],
)
def test_a_flag_of_0_means_generating(body: Any) -> None:
    assert callback(body) == Generating(ID)
    assert read_record_info(body) == Generating(ID)


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        7,
        None,
        {},
        {"code": 200},
        {"code": True},
        {"code": "many"},
        {"code": 302, "msg": "moved"},
        {"code": 200, "data": {"info": {"resultImageUrl": ONE}}},
        shape_a(200, info={"resultImageUrl": ""}),
        shape_a(200, info={"resultImageUrl": "data:image/png;base64,AAAA"}),
        shape_a(200, info=None),
        {"code": 200, "data": {"taskId": "a b", "info": {"resultImageUrl": ONE}}},
        {"code": 200, "data": {"taskId": "", "info": {"resultImageUrl": ONE}}},
        record(1),
        record(1, response={"resultImageUrl": None}),
        record(4),
        record(-1),
        record(None),
        record(flag=True),
    ],
)
def test_a_report_without_a_result_is_unreadable(body: Any) -> None:
    assert isinstance(callback(body), Unreadable)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b'{"code":' + b"9" * 5000 + b"}", b"NaN", b"{}x"],
)
def test_bytes_that_are_not_a_json_object_are_unreadable(raw: bytes) -> None:
    assert isinstance(read_callback(raw), Unreadable)


@pytest.mark.parametrize("code", [404, 400, 401, 500, "404", 200, None])
def test_a_record_without_a_flag_is_no_answer(code: Any) -> None:
    # The vendor may not know a new task for some seconds.
    assert isinstance(read_record_info({"code": code, "msg": "no", "data": None}), Unreadable)


def test_a_record_need_not_repeat_the_id_nor_have_a_flag() -> None:
    body = {"code": 200, "data": {"response": {"resultImageUrl": ONE}}}
    assert outcome(read_record_info(body, ID)) == (ONE,)
    assert isinstance(read_record_info({**body, "code": 404}, ID), Unreadable)
    assert read_record_info({"successFlag": 0}, ID) == Generating(ID)
    # A different id means that it is about another task.
    assert read_record_info(record(0), "other") == Generating(ID)


@pytest.mark.parametrize("status", ["error", "failed", "success"])
def test_the_status_of_a_call_is_not_the_state_of_a_task(status: str) -> None:
    report = read_record_info({"code": 404, "status": status, "message": "no such task"}, ID)
    assert isinstance(report, Unreadable)
    assert "no such task" in report.reason


def test_a_success_without_a_url_says_so_with_the_upstreams_words() -> None:
    report = callback(record(1, errorMessage="Uploading failed"))
    assert isinstance(report, Unreadable)
    assert report.is_success
    assert "URL" in report.reason
    assert "Uploading failed" in report.reason
    assert not getattr(callback(record(4)), "is_success", True)


def test_the_envelope_code_of_a_record_is_ignored() -> None:
    assert outcome(read_record_info({**record(1, response={"resultImageUrl": ONE}), "code": 500})) == (ONE,)


def test_the_vendors_messages_are_limited_and_printable() -> None:
    _, message, _ = outcome(callback(shape_a(501, "\ud800a\x00b\x1b[31mc\nd" + "x" * 10_000)))
    assert message.startswith("ab[31mc\nd")
    assert len(message) <= 4_000


def test_extreme_numbers_are_ignored() -> None:
    _, _, code = outcome(callback(record(3, errorCode=10**400)))
    assert len(code) <= TEXT_COLUMN_OF_CODES


def assert_storable(text: str) -> None:
    assert "\x00" not in text
    text.encode()


def assert_sane(report: Report) -> None:
    if report.upstream_task_id is not None:
        assert 1 <= len(report.upstream_task_id) <= 128
        assert report.upstream_task_id.isascii()
        assert report.upstream_task_id.isprintable()
    match report:
        case Succeeded(upstream_id, urls):
            assert upstream_id
            assert urls
            assert len(set(urls)) == len(urls)
            for url in urls:
                assert_storable(url)
                assert urlsplit(url).scheme in {"http", "https"}
                assert urlsplit(url).hostname
                assert not any(c.isspace() or ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in url)
        case Failed(_, error):
            assert_storable(error.message)
            assert error.message.strip()
            assert error.upstream_code is None or len(error.upstream_code) <= TEXT_COLUMN_OF_CODES


_STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from([ONE, TWO, ID, "200", "400", "1", "3", "\ud800", "\x00", f"{ONE},{TWO}", "[", '["', "{}"]),
    st.text().map(lambda tail: "https://x.example/" + tail),
    st.text().map(lambda tail: "https://" + tail),
)
_ANY_JSON = st.recursive(
    _STRANGE, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)
_URLS = st.fixed_dictionaries(
    {}, optional={"resultImageUrl": _ANY_JSON, "resultImageUrls": _ANY_JSON, "result_urls": _ANY_JSON}
)
_DATA = st.fixed_dictionaries(
    {},
    optional={
        "taskId": st.just(ID) | _ANY_JSON,
        "successFlag": st.sampled_from([0, 1, 2, 3, "1", "3"]) | _ANY_JSON,
        "errorCode": st.sampled_from([0, 400, "500"]) | _ANY_JSON,
        "errorMessage": _ANY_JSON,
        "response": _URLS | _ANY_JSON,
        "info": _URLS | _ANY_JSON,
    },
)
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, 500, 501, "200"]) | _ANY_JSON,
        "msg": _ANY_JSON,
        "message": _ANY_JSON,
        "data": _DATA | _ANY_JSON,
    },
)


@given(st.binary())
def test_any_bytes_can_be_read(raw: bytes) -> None:
    assert_sane(read_callback(raw))


@given(_ANY_JSON)
def test_any_json_can_be_read(body: Any) -> None:
    assert_sane(callback(body))


@given(_BODIES)
def test_anything_like_a_report_can_be_read(body: dict[str, Any]) -> None:
    assert_sane(callback(body))
    assert_sane(read_record_info(body))


@given(st.lists(st.text().map(lambda tail: "https://x.example/" + tail), min_size=1) | st.text())
def test_only_valid_urls_are_returned(value: Any) -> None:
    assert_sane(callback(shape_a(200, info={"resultImageUrl": value})))
