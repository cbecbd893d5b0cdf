"""Images as clients see them: fetched, stored, served and deleted."""

import hashlib
import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.support.images.samples import image_bytes
from tests.support.servers.image_source import Answer, Send, Source, reply
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import success_a
from tests.support.waiting import until

KEPT = {"keep_images": True, "allow_networks": "127.0.0.0/8"}
PICTURE = image_bytes(width=700, height=500, kind="PNG")


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    with Source() as running:
        yield running


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("images")
    with serve(empty_database("sqlite", request, directory), directory, **KEPT) as running:
        yield running


def succeeded(served: Served, *urls: str) -> dict[str, Any]:
    """Let a task succeed with images at these addresses."""
    task, submit = served.processing(num_images=len(urls))
    body = success_a(task["upstream_task_id"])
    body["data"]["info"]["resultImageUrl"] = urls[0] if len(urls) == 1 else list(urls)
    assert served.call_back(submit, body).status_code == 200
    return served.client.task(task["id"])


def settled(served: Served, task_id: str) -> list[dict[str, Any]]:
    """Wait until none of a task's images is pending."""

    def look() -> list[dict[str, Any]] | None:
        images: list[dict[str, Any]] = served.client.task(task_id)["images"]
        return None if any(image["state"] == "pending" for image in images) else images

    return until(look, what="the images being settled")


@pytest.fixture(scope="module")
def kept(served: Served, source: Source) -> dict[str, Any]:
    """An image with a stored copy."""
    task = succeeded(served, source.on("/kept.png", reply(PICTURE)))
    (image,) = settled(served, task["id"])
    return image


# --- copies


def test_a_copy_is_kept_and_outlives_its_source(served: Served, source: Source) -> None:
    task = succeeded(served, source.on("/soon-gone.png", reply(PICTURE)))
    (at_once,) = task["images"]
    assert at_once["url"] == f"{served.gateway.settings.local_url}/v1/images/{at_once['id']}"
    (image,) = settled(served, task["id"])
    assert image == {
        "id": at_once["id"],
        "url": at_once["url"],
        "source_url": source.origin + "/soon-gone.png",
        "state": "stored",
        "reason": None,
        "content_type": "image/png",
        "bytes": len(PICTURE),
        "width": 700,
        "height": 500,
    }
    del source.answers["/soon-gone.png"]
    answer = served.client.get(image["url"])
    assert (answer.status_code, answer.content) == (200, PICTURE)


def test_a_missing_image_is_not_fetched_again_and_keeps_the_result(served: Served, source: Source) -> None:
    url = source.on("/gone.png", reply(b"", status="410 Gone"))
    task = succeeded(served, url)
    (image,) = settled(served, task["id"])
    assert (image["state"], image["url"], image["bytes"]) == ("unavailable", url, None)
    assert image["reason"]
    assert [asked.path for asked in source.asked].count("/gone.png") == 1
    assert served.client.task(task["id"])["status"] == "succeeded"
    answer = served.client.get(f"/v1/images/{image['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "image_unavailable")
    assert image["reason"] in answer.json()["detail"]


def test_a_response_that_is_not_an_image_yet_is_retried(served: Served, source: Source) -> None:
    first = {
        "/page.png": reply(b"<html>soon</html>", Content_Type="text/html"),
        "/accepted.png": reply(b"", status="202 Accepted"),
        "/half.png": reply(PICTURE[: len(PICTURE) // 2]),
        "/locked.png": reply(b"", status="423 Locked"),
    }

    def then_the_picture(odd: bytes) -> Answer:
        answers = [odd]
        return lambda send: send(answers.pop() if answers else reply(PICTURE))

    task = succeeded(served, *(source.on(path, then_the_picture(odd)) for path, odd in first.items()))
    assert [image["state"] for image in settled(served, task["id"])] == ["stored"] * len(first)


def test_a_failing_source_is_retried_until_it_recovers(served: Served, source: Source) -> None:
    answers: list[Answer] = [reply(b"", status="503 Service Unavailable"), reply(PICTURE)]

    def in_turn(send: Send) -> None:
        answer = answers.pop(0)
        assert isinstance(answer, bytes)
        send(answer)

    task = succeeded(served, source.on("/late.png", in_turn))
    (image,) = settled(served, task["id"])
    assert image["state"] == "stored"
    assert served.event_types(task["id"])[-2:] == ["task.succeeded", "task.images_settled"]


def test_a_pending_image_is_503_with_retry_after(served: Served, source: Source) -> None:
    task = succeeded(served, source.on("/not-yet.png", reply(b"", status="404 Not Found", Retry_After="600")))
    (image,) = task["images"]
    source.wait_for("/not-yet.png")
    answer = until(
        lambda: found if (found := served.client.get(f"/v1/images/{image['id']}")).status_code == 503 else None,
        what="an answer",
    )
    assert answer.json()["code"] == "image_pending"
    assert 1 <= int(answer.headers["retry-after"]) <= 600
    # However many requests arrive, the source is only asked occasionally.
    asked = [one.path for one in source.asked].count("/not-yet.png")
    for _ in range(5):
        assert served.client.get(f"/v1/images/{image['id']}").status_code == 503
    assert [one.path for one in source.asked].count("/not-yet.png") == asked


def test_requests_for_a_pending_image_share_one_fetch(served: Served, source: Source) -> None:
    gate = threading.Event()

    def gated(send: Send) -> None:
        gate.wait(15)
        send(reply(PICTURE))

    task = succeeded(served, source.on("/gated.png", gated))
    (image,) = task["images"]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(served.client.get, f"/v1/images/{image['id']}") for _ in range(8)]
        images = served.gateway.container.images.service
        until(lambda: images._waiters == 8, what="all of them waiting")  # noqa: SLF001 -- no other way to see it
        gate.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert [one.path for one in source.asked].count("/gated.png") == 1
    assert not images._fetches  # noqa: SLF001 -- nothing is left behind


def test_the_same_image_is_stored_once_until_its_last_task_is_deleted(served: Served, source: Source) -> None:
    content = image_bytes(seed=7)
    hash_ = hashlib.sha256(content).hexdigest()
    tasks = [succeeded(served, source.on(f"/same-{n}.png", reply(content)))["id"] for n in (1, 2)]
    images = [settled(served, task)[0]["id"] for task in tasks]
    path = Path(served.gateway.settings.data_dir) / "images" / hash_[:2] / hash_
    assert path.read_bytes() == content
    assert served.client.get(f"/v1/images/{images[0]}?w=256").status_code == 200
    for task, image in zip(tasks, images, strict=True):
        assert path.exists()
        assert served.client.delete(f"/v1/tasks/{task}").status_code == 204
        answer = served.client.get(f"/v1/images/{image}")
        assert (answer.status_code, answer.json()["code"]) == (404, "image_not_found")


# --- the bytes


def test_an_image_has_its_content_type_and_is_immutable(served: Served, kept: dict[str, Any]) -> None:
    answer = served.client.get(kept["url"])
    tag = f'"{hashlib.sha256(PICTURE).hexdigest()}"'
    expected = {
        "content-type": "image/png",
        "content-length": str(len(PICTURE)),
        "etag": tag,
        "cache-control": "private, max-age=86400, immutable",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-disposition": f'inline; filename="{kept["id"]}.png"',
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "cross-origin",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    head = served.client.head(kept["url"])
    assert (head.status_code, head.content) == (200, b"")
    assert {name: head.headers.get(name) for name in expected} == expected
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        known = served.client.get(kept["url"], headers={"If-None-Match": given})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert served.client.get(kept["url"], headers={"If-None-Match": '"other"'}).status_code == 200


SIZE = len(PICTURE)


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, SIZE),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes=10-{SIZE * 2}", 10, SIZE),
        (f"Bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ],
)
def test_a_range_is_a_partial_response(served: Served, kept: dict[str, Any], wanted: str, start: int, end: int) -> None:
    answer = served.client.get(kept["url"], headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (206, PICTURE[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1,5-9", "bytes=9-1", "bytes=a-b", "bytes=-", "lines=1-2", "bytes=" + "9" * 40]
)
def test_anything_but_a_single_range_is_ignored(served: Served, kept: dict[str, Any], wanted: str) -> None:
    answer = served.client.get(kept["url"], headers={"Range": wanted})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
def test_a_range_beyond_the_end_is_rejected(served: Served, kept: dict[str, Any], wanted: str) -> None:
    answer = served.client.get(kept["url"], headers={"Range": wanted})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


def test_if_range_with_another_version_returns_the_whole_image(served: Served, kept: dict[str, Any]) -> None:
    tag = served.client.head(kept["url"]).headers["etag"]
    for given, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200), ("Sun, 22 Nov 2026 09:00:00 GMT", 200)):
        headers = {"Range": "bytes=0-9", "If-Range": given}
        assert served.client.get(kept["url"], headers=headers).status_code == status


@pytest.mark.parametrize("width", [256, 512])
def test_a_thumbnail_is_made_once_and_kept(served: Served, kept: dict[str, Any], width: int) -> None:
    address = f"{kept['url']}?w={width}"
    first = served.client.get(address)
    assert (first.status_code, first.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(first.content)) as small:
        assert (small.format, small.width) == ("WEBP", width)
    hash_ = hashlib.sha256(PICTURE).hexdigest()
    assert first.headers["etag"] == f'"{hash_}-w{width}"'
    path = Path(served.gateway.settings.data_dir) / "images" / hash_[:2] / f"{hash_}.w{width}.webp"
    assert path.read_bytes() == first.content
    assert served.client.get(address).content == first.content
    assert served.client.get(address, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    part = served.client.get(address, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, first.content[5:10])
    head = served.client.head(address)
    assert head.headers["content-length"] == str(len(first.content))


def test_other_widths_and_unknown_ids_are_rejected(served: Served, kept: dict[str, Any]) -> None:
    for width in ("1", "257", "0", "-256", "x"):
        answer = served.client.get(f"{kept['url']}?w={width}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "w")
    assert served.client.get(f"{kept['url']}?w=").status_code == 200
    for other in ("img_" + "0" * 32, "img_1", "%00", "..%2f"):
        answer = served.client.get(f"/v1/images/{other}")
        assert answer.status_code == 404


def test_a_missing_file_is_404_until_it_is_back(served: Served, source: Source) -> None:
    content = image_bytes(seed=8)
    task = succeeded(served, source.on("/lost.png", reply(content)))
    (image,) = settled(served, task["id"])
    hash_ = hashlib.sha256(content).hexdigest()
    path = Path(served.gateway.settings.data_dir) / "images" / hash_[:2] / hash_
    path.rename(path.with_suffix(".away"))
    answer = served.client.get(image["url"])
    assert (answer.status_code, answer.json()["code"]) == (404, "image_unavailable")
    assert served.client.head(image["url"]).status_code == 404
    path.with_suffix(".away").rename(path)
    assert served.client.head(image["url"]).status_code == 200
    assert served.client.get(image["url"]).content == content


def test_without_temporary_storage_images_are_unavailable(served: Served, source: Source) -> None:
    content = image_bytes(seed=10)
    task = succeeded(served, source.on("/room.png", reply(content)))
    (image,) = settled(served, task["id"])
    room = Path(served.gateway.settings.data_dir) / "tmp"
    room.rename(room.with_suffix(".away"))
    room.write_text("in the way")
    try:
        answer = served.client.get(f"{image['url']}?w=512")
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"]
    finally:
        room.unlink()
        room.with_suffix(".away").rename(room)
    assert served.client.get(f"{image['url']}?w=512").status_code == 200


def test_a_client_that_disconnects_midway_frees_its_resources(served: Served, source: Source) -> None:
    content = image_bytes(seed=9, width=1500, height=1500)
    task = succeeded(served, source.on("/large.png", reply(content)))
    (image,) = settled(served, task["id"])
    process = psutil.Process()
    address = ("127.0.0.1", served.gateway.settings.port)
    before = len(process.open_files())
    sockets = []
    for _ in range(20):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(address)
        one.sendall(f"GET /v1/images/{image['id']} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert one.recv(100).startswith(b"HTTP/1.1 200")
        sockets.append(one)
    assert len(process.open_files()) > before
    for one in sockets:
        one.close()
    until(lambda: len(process.open_files()) <= before, what="the files being closed")


def test_a_store_that_fails_degrades_and_does_not_stop_the_service(served: Served) -> None:
    store = served.gateway.container.images.store
    store.gate.note_failure("no such bucket")
    answer = served.client.get("/readyz")
    store.gate.note_success()
    assert (answer.status_code, answer.json()["status"], answer.json()["storage"]) == (200, "degraded", "unreachable")
    assert served.client.get("/readyz").json()["storage"] == "ok"


# --- events


def test_a_stream_ends_when_the_images_are_settled(served: Served, source: Source) -> None:
    gate = threading.Event()

    def gated(send: Send) -> None:
        gate.wait(15)
        send(reply(PICTURE))

    urls = [source.on("/first.png", gated), source.on("/second.png", reply(b"", status="410 Gone"))]
    task = succeeded(served, *urls)
    path = f"/v1/tasks/{task['id']}/events"
    with served.follow(path) as stream:
        stream.wait(lambda seen: seen.events and seen.events[-1].type == "task.succeeded")
        told = list(stream.events)
        assert told[-1].data["images"][0]["state"] == "pending"
        gate.set()
        last = stream.wait_for_end()[-1]
        assert last.type == "task.images_settled"
        assert [image["state"] for image in last.data["images"]] == ["stored", "unavailable"]
    assert served.event_types(task["id"]).count("task.images_settled") == 1
    with served.follow(path) as again:
        types = [event.type for event in again.wait_for_end()]
        assert types == [*(event.type for event in told), "task.images_settled"]
    with served.follow(path, last_id=told[-1].id) as resumed:
        assert [event.type for event in resumed.wait_for_end()] == ["task.images_settled"]
    with served.follow(path, last_id=last.id) as over:
        assert over.status == 204
