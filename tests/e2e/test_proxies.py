"""The proxy configurations we ship, in front of real gateways."""

import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.support.clients.raw_connection import RawConnection, request
from tests.support.servers.caddy import Caddy
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.nginx import Nginx

KEYS = {"AUTH": "none", "ALLOWED_HOSTS": "images.example.com,127.0.0.1", "SECRET_KEY": "s"}


def test_clients_behind_nginx_do_not_notice_a_rolling_restart(tmp_path: Path) -> None:
    """Replicas stop in turn; the proxy must not avoid both."""
    directories = [tmp_path / "one", tmp_path / "other"]
    replicas = [GatewayProcess(directory, KEYS) for directory in directories]
    ports = [replica.port for replica in replicas]
    with Nginx(tmp_path, (ports[0], ports[1])) as nginx:
        statuses: Counter[int] = Counter()
        is_over = threading.Event()

        def call() -> None:
            headers = {"Host": "images.example.com"}
            with httpx.Client(base_url=f"http://127.0.0.1:{nginx.port}", headers=headers, trust_env=False) as client:
                while not is_over.is_set():
                    statuses[client.get("/v1/tasks?limit=1").status_code] += 1
                    statuses[client.post("/v1/tasks", json={"prompt": "a cat [sandbox: never]"}).status_code] += 1

        caller = threading.Thread(target=call)
        caller.start()
        try:
            for number, directory in enumerate(directories):
                assert replicas[number].stop() == 0
                _wait_for(statuses, 10)
                replicas[number] = GatewayProcess(directory, KEYS, port=ports[number])
            _wait_for(statuses, 10)
        finally:
            is_over.set()
            caller.join()
            for replica in replicas:
                replica.stop()
    assert set(statuses) == {200, 202}, statuses


def _wait_for(statuses: Counter[int], more: int) -> None:
    """Wait until this many more requests were answered."""
    before = statuses.total()
    while statuses.total() < before + more:
        time.sleep(0.01)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_caddy_does_not_pass_on_upgrade_headers(tmp_path: Path, method: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as backend,
        Caddy(tmp_path, backend.getsockname()[1], passes_upgrades=False) as caddy,
        RawConnection(caddy.port) as client,
    ):
        offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"
        client.send(request("/healthz", method=method, headers=offer) + b"abc")
        connection, _ = backend.accept()
        with connection:
            received = connection.recv(65_536).lower()
    assert received.startswith(f"{method} /healthz http/1.1\r\n".lower().encode())
    assert b"\r\nupgrade:" not in received
    assert b"\r\nconnection:" not in received
