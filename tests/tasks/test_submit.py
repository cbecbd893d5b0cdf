"""Submits: validation, responses and upstream requests."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.support.servers.served import Served

V1 = "/v1/tasks"
URLS = ["https://pictures.example/in.png"]
CALLBACK = "callBackUrl"


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a problem with this code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"} | ({"errors"} & set(body))
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


def raw(served: Served, content: bytes, content_type: str = "application/json", **headers: str) -> httpx.Response:
    return served.client.post(V1, content=content, headers={"Content-Type": content_type, **headers})


# --- rejected


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": "x" * 20_001}, "prompt"),
        ({"prompt": "\U0001f34c" * 20_001}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"model": "nano-banana-3"}, "model"),
        ({"model": ""}, "model"),
        ({"model": 2}, "model"),
        ({"type": "TEXTTOIAMGE"}, "type"),
        ({"type": "image_to_image"}, "type"),
        ({"type": "text_to_image", "image_urls": URLS}, "type"),
        ({"image_urls": "https://pictures.example/in.png"}, "image_urls"),
        ({"image_urls": [""]}, "image_urls.0"),
        ({"image_urls": [*URLS, "ftp://pictures.example/in.png"]}, "image_urls.1"),
        ({"image_urls": ["file:///etc/passwd"]}, "image_urls.0"),
        ({"image_urls": ["https://"]}, "image_urls.0"),
        ({"image_urls": ["https://a.example:port/"]}, "image_urls.0"),
        ({"image_urls": ["https://a.example:99999/"]}, "image_urls.0"),
        ({"image_urls": ["https://[::1/"]}, "image_urls.0"),
        ({"image_urls": ["https://a.example/a b"]}, "image_urls.0"),
        ({"image_urls": ["https://a.example/\x00"]}, "image_urls.0"),
        ({"image_urls": ["//a.example/a.png"]}, "image_urls.0"),
        ({"image_urls": ["https://a.example/" + "a" * 4096]}, "image_urls.0"),
        ({"image_urls": [None]}, "image_urls.0"),
        ({"image_urls": URLS * 15}, "image_urls"),
        ({"image_urls": URLS * 9, "model": "nano-banana-pro"}, "image_urls"),
        ({"image_urls": URLS * 15, "model": "nano-banana-2"}, "image_urls"),
        ({"num_images": 0}, "num_images"),
        ({"num_images": 5}, "num_images"),
        ({"num_images": -1}, "num_images"),
        ({"num_images": 1.5}, "num_images"),
        ({"num_images": "2"}, "num_images"),
        ({"num_images": True}, "num_images"),
        ({"num_images": 10**40}, "num_images"),
        ({"aspect_ratio": "17:9"}, "aspect_ratio"),
        ({"aspect_ratio": "auto"}, "aspect_ratio"),
        ({"aspect_ratio": ""}, "aspect_ratio"),
        ({"aspect_ratio": 1}, "aspect_ratio"),
        ({"aspect_ratio": "1:8", "model": "nano-banana-pro"}, "aspect_ratio"),
        ({"aspect_ratio": "2:1", "model": "nano-banana-2"}, "aspect_ratio"),
        ({"watermark": "w" * 256}, "watermark"),
        ({"watermark": "a\x00"}, "watermark"),
        ({"watermark": 1}, "watermark"),
        ({"resolution": "1K"}, "resolution"),
        ({"output_format": "png"}, "output_format"),
        ({"google_search": True}, "google_search"),
        ({"google_search": False}, "google_search"),
        ({"num_images": 1, "model": "nano-banana-pro"}, "num_images"),
        ({"watermark": "w", "model": "nano-banana-pro"}, "watermark"),
        ({"google_search": True, "model": "nano-banana-pro"}, "google_search"),
        ({"output_format": "png", "model": "nano-banana-pro"}, "output_format"),
        ({"resolution": "8K", "model": "nano-banana-pro"}, "resolution"),
        ({"resolution": "1k", "model": "nano-banana-2"}, "resolution"),
        ({"num_images": 1, "model": "nano-banana-2"}, "num_images"),
        ({"watermark": "", "model": "nano-banana-2"}, "watermark"),
        ({"output_format": "webp", "model": "nano-banana-2"}, "output_format"),
        ({"google_search": "yes", "model": "nano-banana-2"}, "google_search"),
        ({"google_search": 1, "model": "nano-banana-2"}, "google_search"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": None}}, "metadata.a"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata.a"),
        ({"metadata": {"a": "x" * 2049}}, "metadata.a"),
        ({"metadata": {"a": "\x00"}}, "metadata.a"),
        ({"metadata": [["a", "b"]]}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"webhook_url": "not a url"}, "webhook_url"),
        ({"surprise": 1}, "surprise"),
        ({"imageUrls": URLS}, "imageUrls"),
        ({"callBackUrl": "https://a.example/"}, "callBackUrl"),
        ({"subject": "somebody"}, "subject"),
        ({"id": "task_" + "0" * 32}, "id"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40].replace("\x00", "0"),
)
def test_an_invalid_field_is_named(on_sqlite: Served, body: dict[str, Any], field: str) -> None:
    response = on_sqlite.client.post(V1, json={"prompt": "a lake", **body})
    problem = assert_problem(response, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert all(set(error) == {"field", "message"} and error["message"] for error in problem["errors"])


def test_a_prompt_is_required(on_sqlite: Served) -> None:
    problem = assert_problem(on_sqlite.client.post(V1, json={}), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["prompt"]


def test_all_invalid_fields_are_named_at_once(on_sqlite: Served) -> None:
    body = {"prompt": "", "num_images": 9, "surprise": 1}
    problem = assert_problem(on_sqlite.client.post(V1, json=body), 422, "invalid_request")
    assert {error["field"] for error in problem["errors"]} == {"prompt", "num_images", "surprise"}


def test_all_parameters_that_do_not_fit_the_model_are_named_at_once(on_sqlite: Served) -> None:
    body = {"prompt": "x", "model": "nano-banana-pro", "num_images": 2, "watermark": "me", "output_format": "png"}
    problem = assert_problem(on_sqlite.client.post(V1, json=body), 422, "invalid_request")
    assert {error["field"] for error in problem["errors"]} == {"num_images", "watermark", "output_format"}


@pytest.mark.parametrize("body", [[], "a lake", 7, None, True])
def test_json_that_is_not_an_object_is_422(on_sqlite: Served, body: Any) -> None:
    problem = assert_problem(raw(on_sqlite, json.dumps(body).encode()), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["body"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"prompt=a+lake",
        b'{"prompt": "a lake"} and more',
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "a\x00b"}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_malformed_json_is_400(on_sqlite: Served, content: bytes) -> None:
    assert_problem(raw(on_sqlite, content), 400, "malformed_request")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("aspectRatio", "aspect_ratio"),
        ("aspect-ratio", "aspect_ratio"),
        ("imageUrls", "image_urls"),
        ("numImages", "num_images"),
        ("callBackUrl", "webhook_url"),
        ("image_size", "aspect_ratio"),
        ("promt", "prompt"),
        ("meta_data", "metadata"),
        ("n", "num_images"),
    ],
)
def test_an_unknown_field_suggests_a_similar_one(on_sqlite: Served, name: str, meant: str) -> None:
    problem = assert_problem(on_sqlite.client.post(V1, json={"prompt": "x", name: "y"}), 422, "invalid_request")
    assert problem["errors"] == [{"field": name, "message": f"unknown field; did you mean {meant}?"}]
    assert problem["detail"] == f"{name}: unknown field; did you mean {meant}?"
    assert problem["type"] == "/docs/errors#invalid_request"


def test_an_unknown_parameter_suggests_a_similar_one(on_sqlite: Served) -> None:
    problem = assert_problem(on_sqlite.client.get(V1, params={"createdAfter": "2026"}), 422, "invalid_request")
    assert problem["detail"] == "createdAfter: unknown field; did you mean created_after?"


def test_nothing_is_suggested_for_an_unfamiliar_name(on_sqlite: Served) -> None:
    problem = assert_problem(on_sqlite.client.post(V1, json={"prompt": "x", "zzz": 1}), 422, "invalid_request")
    assert problem["detail"] == "zzz: unknown field"


def test_the_detail_counts_further_errors(on_sqlite: Served) -> None:
    problem = assert_problem(on_sqlite.client.post(V1, json={"prompt": "", "num_images": 9}), 422, "invalid_request")
    assert problem["detail"].endswith(" (1 more in errors)")


def test_the_detail_begins_with_a_suggestion(on_sqlite: Served) -> None:
    body = {"zzz": 1, "promt": "x", "num_images": 9}
    problem = assert_problem(on_sqlite.client.post(V1, json=body), 422, "invalid_request")
    assert problem["detail"] == "promt: unknown field; did you mean prompt? (3 more in errors)"
    assert [error["field"] for error in problem["errors"]] == ["promt", "prompt", "num_images", "zzz"]


@pytest.mark.parametrize("content", [b"", b" \r\n", bytes.fromhex("efbbbf")])
def test_an_empty_body_is_named(on_sqlite: Served, content: bytes) -> None:
    problem = assert_problem(raw(on_sqlite, content), 400, "malformed_request")
    assert problem["detail"] == "The body is empty; send a JSON object."


def test_many_unknown_fields_are_counted_instead_of_listed(on_sqlite: Served) -> None:
    body = {"prompt": "x", **{f"f{number}": 1 for number in range(50_000)}}
    problem = assert_problem(on_sqlite.client.post(V1, json=body), 422, "invalid_request")
    assert problem["detail"] == "body: has 50000 invalid fields"


def test_a_byte_order_mark_is_skipped(on_sqlite: Served) -> None:
    assert raw(on_sqlite, bytes.fromhex("efbbbf7b2270726f6d7074223a2261206c616b65227d")).status_code == 202


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"prompt": "a cat \\ud83d"}', "prompt"),
        (b'{"prompt": "x", "metadata": {"a": "\\ude00"}}', "metadata.a"),
        (b'{"prompt": "x", "image_urls": ["https://a.example/", "https://a.example/\\ud83d"]}', "image_urls.1"),
        (b'{"prompt": "x", "\\ud83d": 1}', "body"),
    ],
)
def test_half_an_emoji_names_the_field(on_sqlite: Served, content: bytes, field: str) -> None:
    problem = assert_problem(raw(on_sqlite, content), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert "surrogate" in problem["detail"]


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://img.example.com/a.png\u200b", "ZERO WIDTH SPACE (U+200B) at position 30"),
        ("https://img.example.com/a b.png", "SPACE (U+0020) at position 26"),
        ("https://img.example.com\\a.png", "REVERSE SOLIDUS (U+005C)"),
        ("https://img.example.com/a.png\n", "a control character (U+000A)"),
        ("\ufeffhttps://img.example.com/a.png", "ZERO WIDTH NO-BREAK SPACE (U+FEFF) at position 1"),
    ],
)
def test_a_character_that_no_url_may_contain_is_named(on_sqlite: Served, url: str, named: str) -> None:
    for field, value in (("image_urls", [url]), ("webhook_url", url)):
        problem = assert_problem(on_sqlite.client.post(V1, json={"prompt": "x", field: value}), 422, "invalid_request")
        assert named in problem["detail"]


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:3000/uploads/a.png",
        "http://127.0.0.1/a.png",
        "http://10.1.2.3/a.png",
        "http://[fd00::1]/a.png",
        "http://169.254.1.1/a.png",
        "http://files.internal/a.png",
        "http://minio:9000/bucket/a.png",
    ],
)
def test_an_image_that_the_upstream_can_not_reach_points_to_uploads(on_sqlite: Served, url: str) -> None:
    body = {"prompt": "x", "image_urls": ["https://img.example.com/a.png", url]}
    problem = assert_problem(on_sqlite.client.post(V1, json=body), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["image_urls.1"]
    assert "POST /v1/uploads" in problem["detail"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""]
)
def test_undeclared_json_is_415(on_sqlite: Served, content_type: str) -> None:
    assert_problem(raw(on_sqlite, b'{"prompt": "a lake"}', content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x"])
def test_declared_json_may_have_parameters(on_sqlite: Served, content_type: str) -> None:
    assert raw(on_sqlite, b'{"prompt": "a lake"}', content_type).status_code == 202


def test_a_body_over_one_megabyte_is_413(on_sqlite: Served) -> None:
    body = b'{"prompt": "a lake"}'
    assert raw(on_sqlite, body + b" " * (1024 * 1024 - len(body))).status_code == 202
    too_long = body + b" " * (1024 * 1024 + 1 - len(body))
    assert_problem(raw(on_sqlite, too_long), 413, "body_too_large")
    chunked = on_sqlite.client.post(
        V1, content=iter([too_long[:9], too_long[9:]]), headers={"Content-Type": "application/json"}
    )
    assert_problem(chunked, 413, "body_too_large")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x", "image_urls": [1] * 300_000},
        {"prompt": "x", **{f"f{n}": 1 for n in range(60_000)}},
        {"prompt": "x", "metadata": {f"f{n}": 1 for n in range(60_000)}},
    ],
    ids=["list", "fields", "metadata"],
)
def test_a_body_full_of_errors_gets_a_short_response(on_sqlite: Served, body: dict[str, Any]) -> None:
    response = on_sqlite.client.post(V1, json=body)
    assert_problem(response, 422, "invalid_request")
    assert len(response.content) < 64 * 1024


# --- accepted


def test_the_response_is_the_whole_task(served: Served) -> None:
    response = served.client.post(V1, json={"prompt": "a lake"})
    assert response.status_code == 202
    task = response.json()
    assert response.headers["Location"] == f"{V1}/{task['id']}"
    assert "Idempotent-Replayed" not in response.headers
    assert re.fullmatch(r"task_[0-9a-f]{32}", task["id"])
    stamp = task["created_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert {k: v for k, v in task.items() if k not in {"id", "created_at", "updated_at", "queue_position"}} == {
        "status": "queued",
        "model": "nano-banana",
        "type": "text_to_image",
        "input": {"prompt": "a lake", "image_urls": [], "num_images": 1, "aspect_ratio": None, "watermark": None},
        "images": [],
        "error": None,
        "waiting": None,
        "upstream_task_id": None,
        "attempts": 0,
        "retry_of": None,
        "subject": None,
        "metadata": {},
        "webhook_url": None,
        "submitted_at": None,
        "completed_at": None,
    }
    assert isinstance(task["queue_position"], int)


def test_null_is_the_same_as_omitting_a_field(served: Served) -> None:
    names = ["model", "type", "image_urls", "num_images", "aspect_ratio", "watermark", "webhook_url", "metadata"]
    task = served.client.submit(**dict.fromkeys(names))
    assert (task["model"], task["type"], task["metadata"]) == ("nano-banana", "text_to_image", {})


CASES: list[tuple[dict[str, Any], str, dict[str, Any], dict[str, Any]]] = [
    (
        {},
        "generate",
        {"num_images": 1, "aspect_ratio": None, "watermark": None},
        {"type": "TEXTTOIAMGE", "numImages": 1},
    ),
    (
        {"num_images": 4, "aspect_ratio": "21:9", "watermark": "me", "image_urls": URLS, "type": "image_to_image"},
        "generate",
        {"num_images": 4, "aspect_ratio": "21:9", "watermark": "me"},
        {"type": "IMAGETOIAMGE", "numImages": 4, "image_size": "21:9", "watermark": "me", "imageUrls": URLS},
    ),
    ({"model": "nano-banana-pro"}, "generate-pro", {"resolution": None, "aspect_ratio": None}, {}),
    (
        {"model": "nano-banana-pro", "resolution": "4K", "aspect_ratio": "auto", "image_urls": URLS * 8},
        "generate-pro",
        {"resolution": "4K", "aspect_ratio": "auto"},
        {"resolution": "4K", "aspectRatio": "auto", "imageUrls": URLS * 8},
    ),
    (
        {"model": "nano-banana-2", "type": "text_to_image"},
        "generate-2",
        {"aspect_ratio": None, "resolution": None, "google_search": None, "output_format": None},
        {},
    ),
    (
        {
            "model": "nano-banana-2",
            "aspect_ratio": "1:8",
            "resolution": "2K",
            "google_search": False,
            "output_format": "jpg",
            "image_urls": URLS * 14,
        },
        "generate-2",
        {"aspect_ratio": "1:8", "resolution": "2K", "google_search": False, "output_format": "jpg"},
        {
            "aspectRatio": "1:8",
            "resolution": "2K",
            "googleSearch": False,
            "outputFormat": "jpg",
            "imageUrls": URLS * 14,
        },
    ),
]


@pytest.mark.parametrize(("body", "path", "own", "wire"), CASES)
def test_each_models_parameters_go_upstream(
    served: Served, body: dict[str, Any], path: str, own: dict[str, Any], wire: dict[str, Any]
) -> None:
    task = served.client.submit(prompt="a cat", **body)
    urls = body.get("image_urls", [])
    assert task["type"] == ("image_to_image" if urls else "text_to_image")
    assert task["input"] == {"prompt": "a cat", "image_urls": urls, **own}
    submit = served.submit_of(task["id"])
    assert submit.path == f"/api/v1/nanobanana/{path}"
    assert submit.headers["Authorization"] == "Bearer upstream-key"
    assert submit.headers["Content-Type"] == "application/json"
    assert submit.body == {"prompt": "a cat", CALLBACK: submit.callback_url, **wire}
    token = task["id"].removeprefix("task_")
    assert submit.callback_url.startswith(f"{served.gateway.settings.local_url}/callbacks/nanobanana/{token}-")


@pytest.mark.parametrize(
    "prompt",
    ["\U0001f34c" * 20_000, "日本語" * 6_666, "a\tb\r\nc\u2028d\x7f", '"\\/</script>', "e\u0301 \u202eabc"],
    ids=["emoji", "kanji", "controls", "quotes", "marks"],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_any_text_arrives_upstream_unchanged(served: Served, prompt: str, escaped: bool) -> None:
    response = raw(served, json.dumps({"prompt": prompt}, ensure_ascii=escaped).encode())
    assert response.status_code == 202, response.text
    assert response.json()["input"]["prompt"] == prompt
    assert served.submit_of(response.json()["id"]).body["prompt"] == prompt


def test_metadata_at_its_limits_is_returned(served: Served) -> None:
    metadata = {f"{n:02}" + "k" * 126: "\U0001f34c" * 2048 for n in range(15)} | {"empty": ""}
    task = served.client.submit(metadata=metadata)
    assert served.client.task(task["id"])["metadata"] == metadata
    wrong = served.client.post(V1, json={"prompt": "x", "metadata": {"k" * 129: "v"}})
    assert_problem(wrong, 422, "invalid_request")
    assert_problem(served.client.post(V1, json={"prompt": "x", "metadata": {"": "v"}}), 422, "invalid_request")


def test_a_nul_in_a_metadata_key_is_rejected(served: Served) -> None:
    assert_problem(served.client.post(V1, json={"prompt": "x", "metadata": {"a\x00": "v"}}), 422, "invalid_request")


# --- all responses


@pytest.mark.parametrize("given", ["abc", "a-b_c.d:1", "0" * 128])
def test_a_valid_request_id_is_echoed(on_sqlite: Served, given: str) -> None:
    for path in ("/healthz", V1, "/nowhere"):
        assert on_sqlite.client.get(path, headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "0" * 129, "a/b", "a\tb", "<script>", "é", 'a"b', "a;b", "a,b"])
def test_an_invalid_request_id_is_replaced(on_sqlite: Served, given: str) -> None:
    response = on_sqlite.client.get("/nowhere", headers={b"X-Request-ID": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert response.json()["request_id"] == response.headers["X-Request-ID"]


def test_request_ids_differ(on_sqlite: Served) -> None:
    assert len({on_sqlite.client.get("/healthz").headers["X-Request-ID"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/nowhere", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/tasks/a/b/c", 404, "not_found"),
        ("GET", "/%00", 404, "not_found"),
        ("PUT", V1, 405, "method_not_allowed"),
        ("DELETE", V1, 405, "method_not_allowed"),
        ("PATCH", "/v1/tasks/x", 405, "method_not_allowed"),
        ("GET", "/v1/tasks/x/cancel", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_unknown_routes_and_methods_are_problems(
    on_sqlite: Served, method: str, path: str, status: int, code: str
) -> None:
    response = on_sqlite.client.request(method, path)
    assert_problem(response, status, code)
    assert ("allow" in response.headers) is (status == 405)


UNKNOWN_IDS = [
    "x",
    "task_" + "0" * 32,
    "0" * 32,
    "task_" + "z" * 32,
    "%00",
    "task_%00",
    "task_" + "0" * 31 + "%00",
    "%F0%9F%8D%8C",
    "%ED%A0%80",
    "%FF",
    "' OR 1=1 --",
    "x" * 4_000,
]


@pytest.mark.parametrize("task_id", UNKNOWN_IDS, ids=range(len(UNKNOWN_IDS)))
def test_any_unknown_task_id_is_404(served: Served, task_id: str) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/callbacks"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ):
        assert_problem(served.client.request(method, f"{V1}/{task_id}{path}"), 404, "task_not_found")
