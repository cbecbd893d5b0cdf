"""The container image builds and serves."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE_IMAGE = "python:3.13-slim"
BUILDAH = ("buildah", "--storage-driver", "vfs")
API_KEY = "nbg_image_test"
BUILD_SECONDS = 400
START_SECONDS = 60


def buildah(*arguments: str) -> str:
    return subprocess.run([*BUILDAH, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@contextmanager
def built_image() -> Iterator[str]:
    name = f"nanobanana-gateway:test-{uuid.uuid4().hex[:8]}"
    command = ["make", "image", f"IMAGE={name}"]
    environment = {**os.environ, "BUILDER": "buildah"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        yield name
    finally:
        buildah("rmi", name)


@contextmanager
def container_of(image: str) -> Iterator[str]:
    container = buildah("from", "--pull-never", image)
    try:
        yield container
    finally:
        buildah("rm", container)


class ServingContainer:
    """A container with the host's network, on a loopback port."""

    def __init__(self, container: str, config: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = {"HOST": "127.0.0.1", "PORT": str(port), "BOOTSTRAP_API_KEY": API_KEY, "LOG_FORMAT": "json"}
        options = [f"--env={name}={value}" for name, value in settings.items()]
        self._run = [*BUILDAH, "run", "--isolation=chroot", *options, container, "--"]
        self._process = subprocess.Popen(
            [*self._run, *config["Entrypoint"], *config["Cmd"]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_started(self) -> None:
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, self.kill)
        watchdog.start()
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if re.search(r'"event": ?"started"', line):
                break
        else:
            pytest.fail("the service did not start:\n" + "".join(lines))
        watchdog.cancel()

    def run(self, command: list[str]) -> int:
        """Run another command in the container, as `docker exec` would."""
        return subprocess.run([*self._run, *command], check=False, timeout=60).returncode

    def stop(self) -> int:
        """Stop the service like `docker stop`; return its exit code."""
        service = psutil.Process(self._process.pid).children(recursive=True)[-1]
        assert service.uids().real == 10001
        service.terminate()
        self._process.communicate(timeout=60)
        return self._process.returncode

    def kill(self) -> None:
        if self._process.poll() is None:
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.kill()
            self._process.communicate(timeout=60)


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_the_image_is_built_and_serves() -> None:
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("building an image in a test takes buildah and root")
    if not buildah("images", "--quiet", "--filter", f"reference={BASE_IMAGE}"):
        pytest.skip(f"{BASE_IMAGE} is not in buildah's store; tests/deploy/base_image.sh makes a stand-in")
    with built_image() as image, container_of(image) as container:
        config = json.loads(buildah("inspect", "--type=image", image))["Docker"]["config"]
        assert config["User"] == "10001:10001"
        assert config["Volumes"] == {"/data": {}}
        assert config["StopSignal"] == "SIGTERM"
        serving = ServingContainer(container, config)
        try:
            serving.wait_until_started()
            check_a_task(serving.url)
            assert serving.run(config["Healthcheck"]["Test"][1:]) == 0
            assert serving.stop() == 0
        finally:
            serving.kill()


def check_a_task(url: str) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}", "Prefer": "wait=60"}
    with httpx.Client(base_url=url, headers=headers, timeout=90, trust_env=False) as client:
        assert client.get("/readyz").json()["status"] == "ready"
        task = client.post("/v1/tasks", json={"prompt": "a lighthouse"}).json()
        assert task["status"] == "succeeded"
        image = client.get(task["images"][0]["url"])
        assert image.status_code == 200
        assert re.match(r"image/(png|jpeg|webp)", image.headers["content-type"])
