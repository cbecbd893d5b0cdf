"""Image copies with real processes, kills and the sandbox."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images.samples import image_bytes
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.image_source import Answer, Send, Source, reply
from tests.support.servers.vendor import Vendor, success_a
from tests.support.waiting import until

PICTURES = 12
KEPT = {
    "KEEP_IMAGES": "true",
    "ALLOW_NETWORKS": "127.0.0.0/8",
    "NANOBANANA_API_KEY": "upstream-key",
    "UPSTREAM_RATE_LIMIT": "0",
}


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as running:
        yield running


def test_kill_9_during_copies_leaves_no_partial_image_and_all_settle(
    vendor: Vendor, source: Source, tmp_path: Path
) -> None:
    contents = [image_bytes(seed=n, width=400, height=300) for n in range(PICTURES)]
    is_slow, halves = threading.Event(), threading.Semaphore(0)
    is_slow.set()

    def half_first(content: bytes) -> Answer:
        def send(to: Send) -> None:
            whole = reply(content)
            to(whole[: len(whole) // 2])
            if is_slow.is_set():
                halves.release()
                source.closing.wait(20)
            to(whole[len(whole) // 2 :])

        return send

    urls = [
        source.on(f"/{n}.png", reply(content) if n % 3 == 0 else half_first(content))
        for n, content in enumerate(contents)
    ]
    environment = {**KEPT, "NANOBANANA_BASE_URL": vendor.url}
    with GatewayProcess(tmp_path, environment) as first:
        tasks = []
        for url in urls:
            tasks.append(first.client.submit()["id"])
            submit = vendor.wait_for_submits(len(tasks))[-1]
            until(lambda: first.client.task(tasks[-1])["status"] == "processing", what="the reply")
            upstream_id = first.client.task(tasks[-1])["upstream_task_id"]
            assert vendor.call_back(submit, success_a(upstream_id, url)).status_code == 200
        for _ in range(PICTURES * 2 // 3):
            assert halves.acquire(timeout=15)
        first.stop(signal.SIGKILL)
    is_slow.clear()
    with GatewayProcess(tmp_path, environment) as second:
        for task_id, content in zip(tasks, contents, strict=True):

            def look(task_id: str = task_id) -> str | None:
                (image,) = second.client.task(task_id)["images"]
                return image["url"] if image["state"] == "stored" else None

            address = until(look, what=f"the picture of {task_id}").split("/v1/")[1]
            assert second.client.get(f"/v1/{address}").content == content
    stored = list((tmp_path / "data" / "images").glob("??/*"))
    assert sorted(path.name for path in stored) == sorted(hashlib.sha256(content).hexdigest() for content in contents)
    for path in stored:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_images_of_the_sandbox_are_copied(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, {"KEEP_IMAGES": "true"}) as gateway:
        task = gateway.client.wait_for(gateway.client.submit(prompt="a lake [sandbox: delay=0]")["id"])
        (image,) = task["images"]
        assert image["url"] == f"http://127.0.0.1:{gateway.port}/v1/images/{image['id']}"
        # Works whether or not it was fetched already.
        answer = gateway.client.get(image["url"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        (image,) = gateway.client.task(task["id"])["images"]
        assert (image["state"], image["bytes"]) == ("stored", len(answer.content))
