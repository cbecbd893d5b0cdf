"""The first calls of the README and the clients to copy work as they stand, against a running gateway."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers.gateway_process import GatewayProcess

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CLIENTS = ROOT / "docs" / "how-to" / "clients"
KEY = "nbg_" + "k" * 32
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway as the README starts it: without settings, so with the sandbox."""
    with started(tmp_path_factory.mktemp("open")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keyed_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with started(tmp_path_factory.mktemp("keyed"), BOOTSTRAP_API_KEY=KEY) as gateway:
        yield gateway


def started(directory: Path, **environment: str) -> GatewayProcess:
    gateway = GatewayProcess(directory, {"KEEP_IMAGES": "true", **environment})
    sandbox = re.search(r"sandbox\b.*address=(\S+)", gateway.log)
    assert sandbox
    httpx.put(f"{sandbox[1]}/sandbox/behaviour", json={"delay_seconds": 0.1}).raise_for_status()
    return gateway


def program(language: str) -> list[str]:
    found = {"sh": shutil.which("curl") and shutil.which("bash"), "python": sys.executable, "js": shutil.which("node")}[
        language
    ]
    if found is None:
        pytest.skip(f"nothing here runs {language}")
    return [found]


@pytest.mark.parametrize("language", ["sh", "python", "js"])
def test_the_first_call_prints_the_url_of_an_image(gateway: GatewayProcess, tmp_path: Path, language: str) -> None:
    done = first_call(tmp_path, language, gateway.port)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r'http[^\s"]+', done.stdout)
    assert len(printed) == 1
    assert httpx.get(printed[0]).content.startswith(PNG)


@pytest.mark.parametrize("language", ["sh", "python", "js"])
def test_the_first_call_says_why_a_task_failed(gateway: GatewayProcess, tmp_path: Path, language: str) -> None:
    done = first_call(tmp_path, language, gateway.port, prompt="a lake [sandbox: fail=400]")
    assert "flagged as violating content policies" in done.stdout


def test_the_first_call_says_that_the_service_is_not_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        unused = server.getsockname()[1]
    done = first_call(tmp_path, "sh", unused)
    assert done.stdout == ""
    assert re.fullmatch(r"curl: \(7\) .+\n", done.stderr)


def first_call(
    directory: Path, language: str, port: int, prompt: str = "a lake at sunset"
) -> subprocess.CompletedProcess[str]:
    """Run the README's example for a language."""
    block = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block
    example = directory / {"sh": "call.sh", "python": "call.py", "js": "call.mjs"}[language]
    text = block[1].replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
    example.write_text(text.replace("a lake at sunset", prompt))
    return subprocess.run([*program(language), str(example)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("language", "file"), [("python", "client.py"), ("js", "client.mjs")])
def test_a_client_saves_an_image(keyed_gateway: GatewayProcess, tmp_path: Path, language: str, file: str) -> None:
    def run(prompt: str, path: Path, key: str) -> subprocess.CompletedProcess[str]:
        address = f"http://127.0.0.1:{keyed_gateway.port}"
        environment = {"PATH": os.environ["PATH"], "GATEWAY_URL": address, "GATEWAY_KEY": key}
        command = [*program(language), str(CLIENTS / file), prompt, str(path)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = run("a lake at sunset", tmp_path / "lake.png", KEY)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"task_\w+ http://\S+/v1/images/img_\w+\n", done.stdout)
    assert (tmp_path / "lake.png").read_bytes().startswith(PNG)

    failed = run("a cat [sandbox: fail=400]", tmp_path / "cat.png", KEY)
    assert failed.returncode == 1
    assert "content_policy" in failed.stderr
    refused = run("a cat", tmp_path / "cat.png", "wrong-key-of-nobody")
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert not (tmp_path / "cat.png").exists()


@pytest.mark.parametrize(("language", "file"), [("python", "client.py"), ("js", "client.mjs")])
@pytest.mark.parametrize("arguments", [[], ["a lake at sunset"]])
def test_a_client_without_arguments_shows_its_usage(language: str, file: str, arguments: list[str]) -> None:
    command = [*program(language), str(CLIENTS / file), *arguments]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.fullmatch(rf"usage: \w+ {file} .+\n", done.stderr)


@pytest.mark.parametrize("file", ["client.py", "client.mjs"])
def test_a_client_is_short(file: str) -> None:
    assert len((CLIENTS / file).read_text().splitlines()) <= 35
