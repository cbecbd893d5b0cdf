"""The receivers in docs/how-to/receive-webhooks.md against a running gateway."""

import base64
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.delivery import plan
from app.domain.event import event_of
from app.domain.task import Status
from app.domain.webhook import headers, new_secret
from app.settings import Settings
from tests.support.clients.webhooks import HOOKED, refused, settled
from tests.support.paths import ROOT
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Vendor
from tests.support.tasks import NOW, make_task
from tests.support.waiting import until

TEXT = (ROOT / "docs" / "how-to" / "receive-webhooks.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@contextmanager
def running(command: list[str], secret: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an example; yield its URL and process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {"WEBHOOK_SECRET": secret, "PORT": str(port), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def listens() -> bool:
        assert process.poll() is None, "the example exited immediately"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens, what="the example's start")
        yield f"http://127.0.0.1:{port}/hooks/images", process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_documented_receiver_accepts_only_our_webhooks(tmp_path: Path, vendor: Vendor, language: str) -> None:
    interpreter = sys.executable if language == "python" else shutil.which("node")
    if interpreter is None:
        pytest.skip("Node.js is not installed")
    source = tmp_path / f"receiver.{'py' if language == 'python' else 'cjs'}"
    source.write_text(blocks(language)[0])
    vendor.on_submit = refused
    with LiveGateway(data_dir=tmp_path / "data", upstream_url=vendor.url, secret_key="s", **HOOKED) as gateway:
        secret = gateway.client.get("/v1/webhook-secret").json()["secret"]
        gateway.client.post("/v1/webhook-secret/rotate")
        with running([interpreter, str(source)], secret) as (url, process):
            task = gateway.client.submit(webhook_url=url, prompt="ein Bär, 湖")["id"]
            delivery = settled(gateway, task, "delivered")
            assert [attempt["status"] for attempt in delivery["attempts"]] == [204]
            gateway.client.post(f"/v1/webhook-deliveries/{delivery['id']}/redeliver")
            until(lambda: len(settled(gateway, task, "delivered")["attempts"]) == 2)
            message = b'{"type":"task.failed","data":{"id":"x"}}'
            good = signed(secret, message)
            for body, given in forgeries(message, good, secret):
                assert httpx.post(url, content=body, headers=given).status_code == 401
            assert httpx.post(url, content=message, headers=good).status_code == 204
            process.kill()
            assert process.stdout is not None
            said = process.stdout.read().splitlines()
    # The second try of the same message was recognized.
    assert said == [f"task.failed {task}", "task.failed x"]


def test_the_manual_check_accepts_only_our_webhooks() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)  # noqa: S102 -- our own example
    is_genuine = names["is_genuine"]
    secret, body = new_secret("p", NOW).secret, '{"a":"ü"}'.encode()
    good = signed(secret, body)
    assert is_genuine(secret, good, body)
    assert is_genuine(secret, {**good, "webhook-signature": f"v1,AAAA {good['webhook-signature']}"}, body)
    for wrong_body, wrong in forgeries(body, good, secret):
        assert not is_genuine(
            secret, {"webhook-id": "", "webhook-timestamp": "", "webhook-signature": "", **wrong}, wrong_body
        )


def test_the_table_of_retries_is_the_default_schedule() -> None:
    rows = re.findall(r"^\| (\d) \| (none|[\w ]+) \| ([\w ]+) \|$", TEXT, re.MULTILINE)
    schedule = Settings(_env_file=None).webhook_retry_schedule
    assert [int(number) for number, _, _ in rows] == list(range(1, len(schedule) + 2))
    assert [seconds(pause) for _, pause, _ in rows[1:]] == schedule
    # Times in hours leave out the first five seconds.
    assert [seconds(after) for _, _, after in rows[2:]] == [sum(schedule[1:n]) for n in range(2, len(schedule) + 1)]


def seconds(text: str) -> int:
    units = {"s": 1, "min": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)", text))


def signed(secret: str, body: bytes, at: float = 0) -> dict[str, str]:
    """The gateway's headers for a body, `at` seconds from now."""
    task = make_task(status=Status.CANCELED, webhook_url="https://receiver.example/")
    delivery = plan(event_of(task))
    assert delivery is not None
    return headers(delivery, body, [secret], round((time.time() + at) * 1000))


def forgeries(body: bytes, good: dict[str, str], secret: str) -> list[tuple[bytes, dict[str, str]]]:
    """Wrong bodies, ids, times, secrets and signatures, to be rejected."""
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    return [
        (body + b" ", good),
        (body, {**good, "webhook-id": "whd_other"}),
        (body, {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}),
        (body, {**good, "webhook-timestamp": "soon"}),
        (body, {**good, "webhook-signature": "v1,"}),
        (body, {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}),
        (body, {**good, "webhook-signature": "nonsense"}),
        (body, signed(other, body)),
        (body, signed(secret, body, -310)),
        (body, signed(secret, body, 310)),
        (body, {}),
    ]
