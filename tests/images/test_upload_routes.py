"""Uploading images as bodies, in forms, or with tasks."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import update

from app.db.engine import Database
from app.db.schema import uploads
from app.errors import ServiceUnavailable
from app.web.memory_budget import MemoryBudget
from tests.access.test_access import problem
from tests.support.images.samples import SECRET, encode, noise, png_chunk, telling
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import envelope

V1 = "/v1/uploads"
PUBLIC = "http://localhost:1"
LIMIT = 200_000
JPEG = telling("JPEG", 6)
PNG = encode(noise(), "PNG")
LARGE = encode(noise(300, 300), "PNG")
assert len(LARGE) > LIMIT


@pytest.fixture(scope="module")
def _module_uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("uploads")
    settings: dict[str, Any] = {"public_base_url": PUBLIC, "max_upload_bytes": LIMIT}
    with serve(f"sqlite:///{directory / 'test.db'}", directory, **settings) as running:
        yield running


@pytest.fixture
def served(_module_uploads: Served) -> Served:
    _module_uploads.calm()
    return _module_uploads


def send(served: Served, content: bytes, kind: str = "image/jpeg", **headers: str) -> httpx.Response:
    return served.client.post(V1, content=content, headers={"Content-Type": kind, **headers})


def path_of(url: str) -> str:
    assert url.startswith(f"{PUBLIC}{V1}/upl_")
    return url.removeprefix(PUBLIC)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def test_an_upload_is_stored_without_its_metadata(served: Served) -> None:
    answer = send(served, JPEG, "application/octet-stream")
    assert answer.status_code == 201
    kept = answer.json()
    assert set(kept) == {"id", "url", "content_type", "bytes", "width", "height", "expires_at"}
    assert (kept["content_type"], kept["width"], kept["height"]) == ("image/jpeg", 48, 64)
    assert answer.headers["location"] == path_of(kept["url"]) == f"{V1}/{kept['id']}"
    shown = served.client.get(path_of(kept["url"]))
    assert (shown.status_code, len(shown.content)) == (200, kept["bytes"])
    assert SECRET not in shown.content
    with Image.open(io.BytesIO(shown.content)) as image, Image.open(io.BytesIO(JPEG)) as original:
        assert image.tobytes() == original.tobytes()
        assert dict(image.getexif()) == {0x0112: 6}


def test_an_upload_is_served_like_an_image(served: Served) -> None:
    kept = send(served, PNG, "image/png").json()
    path = path_of(kept["url"])
    shown = served.client.get(path)
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["etag"] == f'"{hashlib.sha256(shown.content).hexdigest()}"'
    cache, age, immutable = shown.headers["cache-control"].split(", ")
    assert (cache, immutable) == ("private", "immutable")
    assert 86_300 <= int(age.removeprefix("max-age=")) <= 86_400
    assert served.client.head(path).headers["content-length"] == str(len(PNG))
    part = served.client.get(path, headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, PNG[:8])
    assert served.client.get(path, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    assert served.client.get(f"{path}?w=256").headers["content-type"] == "image/webp"
    assert problem(served.client.get(f"{path}?w=7")) == (422, "invalid_request")


def test_a_form_with_one_file_is_accepted(served: Served) -> None:
    for name in ("file", "anything"):
        answer = served.client.post(V1, files={name: ("../../etc/passwd", PNG, "text/html")})
        assert answer.status_code == 201
        assert served.client.get(path_of(answer.json()["url"])).content == PNG


def form(*parts: bytes, boundary: bytes = b"x", end: bytes = b"--") -> bytes:
    written = b"".join(
        b"--" + boundary + b"\r\nContent-Disposition: form-data; name=f\r\n\r\n" + part + b"\r\n" for part in parts
    )
    return written + b"--" + boundary + end + b"\r\n"


FORM = "multipart/form-data; boundary=x"
HEADERS = b"--x\r\n" + b"A: b\r\n" * 100 + b"\r\n" + PNG + b"\r\n--x--\r\n"
LONG_HEADER = b"--x\r\nA: " + b"b" * 9000 + b"\r\n\r\n" + PNG + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"", "image/png", (422, "invalid_request")),
        (b"<svg/>", "image/svg+xml", (422, "invalid_image")),
        (b"<html>", "image/png", (422, "invalid_image")),
        (PNG[:-20], "image/png", (422, "invalid_image")),
        (PNG, "", (415, "unsupported_media_type")),
        (PNG, "text/plain", (415, "unsupported_media_type")),
        (PNG, "application/json", (415, "unsupported_media_type")),
        (PNG, "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (LARGE, "image/png", (413, "body_too_large")),
        (form(LARGE), FORM, (413, "body_too_large")),
        (form(PNG, PNG), FORM, (422, "invalid_request")),
        (form(), FORM, (422, "invalid_request")),
        (form(b""), FORM, (422, "invalid_request")),
        (form(PNG), "multipart/form-data", (400, "malformed_request")),
        (form(PNG), "multipart/form-data; boundary=" + "y" * 300, (400, "malformed_request")),
        (form(PNG, boundary=b"z"), FORM, (400, "malformed_request")),
        (form(PNG)[:-10], FORM, (400, "malformed_request")),
        (form(PNG, end=b"xx"), FORM, (400, "malformed_request")),
        (HEADERS, FORM, (400, "malformed_request")),
        (LONG_HEADER, FORM, (400, "malformed_request")),
        (form(b"\r\n--x-" * 1000), FORM, (422, "invalid_request")),
        (form(PNG, boundary=b""), 'multipart/form-data; boundary=""', (400, "malformed_request")),
        (form(PNG)[:-4] + b" " * 20_000, FORM, (413, "body_too_large")),
        (form(PNG) + b"\r\n" * 10_000, FORM, (413, "body_too_large")),
    ],
)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_invalid_uploads_are_rejected(
    served: Served, content: bytes, kind: str, expected: tuple[int, str], is_chunked: bool
) -> None:
    body = (content[start : start + 30_000] for start in range(0, len(content), 30_000)) if is_chunked else content
    answer = served.client.post(V1, content=body, headers={"Content-Type": kind} if kind else {})
    assert problem(answer) == expected
    spool = served.gateway.settings.data_dir / "tmp"
    assert list(spool.glob("picture-*")) == []


def test_the_limit_applies_to_the_image_itself(served: Served) -> None:
    fitting = PNG[:33] + png_chunk(b"tEXt", b"a\0" + bytes(LIMIT - len(PNG) - 14)) + PNG[33:]
    assert len(fitting) == LIMIT
    assert send(served, fitting, "image/png").status_code == 201
    assert served.client.post(V1, files={"file": ("a.png", fitting, "image/png")}).status_code == 201
    assert problem(send(served, fitting + b"x", "image/png")) == (413, "body_too_large")


@pytest.mark.parametrize("kind", ["image/png", FORM])
def test_foreign_pages_cannot_upload_to_an_open_service(served: Served, kind: str) -> None:
    headers = {"Content-Type": kind, "Origin": "https://evil.example"}
    assert problem(served.client.post(V1, content=form(PNG), headers=headers)) == (403, "origin_not_allowed")


def test_unknown_uploads_are_404(served: Served) -> None:
    for upload_id in ("upl_" + "0" * 32, "x", "upl_%00"):
        assert problem(served.client.get(f"{V1}/{upload_id}")) == (404, "upload_not_found")


def test_an_upload_reaches_the_vendor(served: Served) -> None:
    url = send(served, PNG).json()["url"]
    task = served.client.submit(image_urls=[url])
    assert task["type"] == "image_to_image"
    assert served.submit_of(task["id"]).body["imageUrls"] == [url]


def test_a_reference_to_an_unknown_upload_is_rejected(served: Served) -> None:
    url = f"{PUBLIC}{V1}/upl_{'0' * 32}"
    answer = served.client.post("/v1/tasks", json={"prompt": "x", "image_urls": [url]})
    assert problem(answer) == (422, "invalid_request")
    assert answer.json()["errors"] == [
        {"field": "image_urls.0", "message": "refers to an upload that has expired or does not exist"}
    ]


def test_images_can_be_sent_with_the_task(served: Served) -> None:
    elsewhere = "https://elsewhere.example/a.png"
    task = served.client.submit(image_urls=[data_uri(PNG), elsewhere, data_uri(JPEG, "image/webp")])
    first, second, third = task["input"]["image_urls"]
    assert second == elsewhere
    assert served.client.get(path_of(first)).content == PNG
    assert SECRET not in served.client.get(path_of(third)).content
    assert served.submit_of(task["id"]).body["imageUrls"] == [first, elsewhere, third]


def test_a_repeated_request_with_images_returns_its_task(served: Served) -> None:
    body = {"prompt": "x", "image_urls": [data_uri(PNG)]}
    headers = {"Idempotency-Key": "with-a-picture"}
    first = served.client.post("/v1/tasks", json=body, headers=headers)
    again = served.client.post("/v1/tasks", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["input"] == again.json()["input"]
    body["image_urls"] = [data_uri(JPEG)]
    assert problem(served.client.post("/v1/tasks", json=body, headers=headers)) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64,####", "is a data URI whose base64 can't be decoded"),
        ("data:text/html;base64,QUJD", "must be an http(s) URL, or a data URI that begins like data:image/png;base64,"),
        (data_uri(b"<html>"), "is HTML or XML, not a PNG, JPEG, WebP or GIF image"),
        (data_uri(PNG[:-20]), "is incomplete: its end is missing"),
        ("data:image/png;base64,", "is empty"),
    ],
)
def test_an_invalid_image_in_a_task_is_named(served: Served, uri: str, message: str) -> None:
    answer = served.client.post("/v1/tasks", json={"prompt": "x", "image_urls": [data_uri(PNG), uri]})
    assert problem(answer) == (422, "invalid_request")
    assert answer.json()["errors"] == [{"field": "image_urls.1", "message": message}]


def test_images_in_a_task_share_the_limit(served: Served) -> None:
    half = encode(noise(190, 190), "PNG")
    assert LIMIT / 2 < len(half) < LIMIT
    served.client.submit(image_urls=[data_uri(half)])
    for urls in ([data_uri(half), data_uri(half)], [data_uri(LARGE)]):
        answer = served.client.post("/v1/tasks", json={"prompt": "x", "image_urls": urls})
        assert problem(answer) == (413, "body_too_large")


def test_only_images_may_make_a_body_large(tmp_path: Path) -> None:
    large = encode(noise(800, 800), "PNG", compress_level=0)
    settings: dict[str, Any] = {"public_base_url": PUBLIC, "max_upload_bytes": 3_000_000}
    with serve(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, **settings) as served:
        task = served.client.submit(image_urls=[data_uri(large)])
        assert served.client.get(path_of(task["input"]["image_urls"][0])).content == large
        padded = b'{"prompt": "x"' + b" " * 1_100_000 + b"}"
        endless = json.dumps({"prompt": "x", "image_urls": ["data:" + "x" * 5_000_000]}).encode()
        crumbs = json.dumps({"image_urls": [data_uri(PNG)], **{str(n): n for n in range(200_000)}}).encode()
        many = json.dumps({"image_urls": ["data:"] * 300_000}).encode()
        for body in (padded, endless, crumbs, many):
            headers = {"Content-Type": "application/json"}
            assert problem(served.client.post("/v1/tasks", content=body, headers=headers)) == (413, "body_too_large")
            chunks = (body[start : start + 60_000] for start in range(0, len(body), 60_000))
            assert problem(served.client.post("/v1/tasks", content=chunks, headers=headers)) == (413, "body_too_large")


def test_without_temporary_storage_uploads_are_rejected(tmp_path: Path) -> None:
    with serve(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, public_base_url=PUBLIC) as served:
        room = Path(served.gateway.settings.data_dir) / "tmp"
        assert send(served, PNG).status_code == 201
        room.rename(room.with_suffix(".away"))
        room.write_text("in the way")
        answer = send(served, PNG)
        assert problem(answer) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"]
        room.unlink()
        assert send(served, PNG).status_code == 201


def expire_all(served: Served) -> None:
    async def write() -> None:
        database = Database(served.database_url)
        await database.write(lambda connection: connection.execute(update(uploads).values(expires_at=1)))
        await database.aclose()

    asyncio.run(write())


def test_a_retry_needs_its_uploads_but_a_repeated_request_does_not(served: Served) -> None:
    served.vendor.on_submit = lambda _: envelope(400, "no")
    url = send(served, PNG).json()["url"]
    body, headers = {"prompt": "x", "image_urls": [url]}, {"Idempotency-Key": "with-an-upload"}
    task = served.client.post("/v1/tasks", json=body, headers=headers).json()
    served.client.wait_for(task["id"], "failed")
    assert served.client.post(f"/v1/tasks/{task['id']}/retry").status_code == 202
    expire_all(served)
    assert problem(served.client.get(path_of(url))) == (410, "upload_expired")
    answer = served.client.post(f"/v1/tasks/{task['id']}/retry")
    assert problem(answer) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == "image_urls.0"
    assert problem(served.client.post("/v1/tasks", json=body)) == (422, "invalid_request")
    replayed = served.client.post("/v1/tasks", json=body, headers=headers)
    assert (replayed.status_code, replayed.json()["id"]) == (202, task["id"])
    other = {**body, "prompt": "y"}
    assert problem(served.client.post("/v1/tasks", json=other, headers=headers)) == (422, "idempotency_key_reused")


def test_the_memory_for_large_bodies_is_limited() -> None:
    bodies = MemoryBudget(3_000)
    with bodies.permit(10_000) as first, bodies.permit(10_000) as second:
        first.take(600)
        with pytest.raises(ServiceUnavailable):
            second.take(600)
        second.take(400)
    assert bodies.taken == 0


def test_without_a_public_address_uploads_are_rejected(on_sqlite: Served) -> None:
    assert problem(on_sqlite.client.post(V1, content=PNG, headers={"Content-Type": "image/png"})) == (
        422,
        "public_url_required",
    )
    answer = on_sqlite.client.post("/v1/tasks", json={"prompt": "x", "image_urls": [data_uri(PNG)]})
    assert problem(answer) == (422, "public_url_required")
