"""Request smuggling through a real proxy shared with another client."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients.raw_connection import RawConnection, request
from tests.support.servers.caddy import Caddy
from tests.support.servers.gateway_process import GatewayProcess

ROUNDS = 40
# Wherever the body is cut, a server that skips empty lines would find a complete request.
PADDING = b"\r\n" * 3_000


@pytest.mark.parametrize("passes_upgrades", [True, False])
def test_no_body_becomes_a_request_and_no_response_reaches_another_client(
    tmp_path: Path, passes_upgrades: bool
) -> None:
    with (
        GatewayProcess(tmp_path, {"LOG_LEVEL": "debug", "LOG_FORMAT": "json"}) as gateway,
        Caddy(tmp_path, gateway.port, passes_upgrades=passes_upgrades) as caddy,
    ):
        task = gateway.client.submit(prompt="a cat [sandbox: never]")
        smuggled = f"GET /v1/tasks/{task['id']}?wait=1 HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: smuggled\r\n\r\n"
        body = PADDING + smuggled.encode()
        is_over = threading.Event()
        found: dict[str, list[str]] = {"stranger": [], "client": []}

        def ask(line: RawConnection, who: str, number: int, path: str) -> None:
            request_id = f"{who}-{number}"
            line.ask(path, headers=b"X-Request-ID: %b\r\n" % request_id.encode())
            answer = line.answer()
            if (answer.status, answer.headers["x-request-id"]) != (200, request_id):
                found[who].append(f"{request_id} got {answer}")

        def be_stranger() -> None:
            for number in range(ROUNDS):
                with RawConnection(caddy.port) as line:
                    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n" % len(body)
                    line.send(request("/healthz", method="POST", headers=offer))
                    line.send(body[:2000])
                    line.send(body[2000:])
                    line.answer()
                    ask(line, "stranger", number, "/healthz")

        def be_client() -> None:
            with RawConnection(caddy.port) as line:
                number = 0
                while not is_over.is_set():
                    ask(line, "client", number, "/v1/webhook-secret")
                    number += 1

        def failing(who: str, act: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    act()
                except Exception as error:  # noqa: BLE001 -- a missing response is a finding, too
                    found[who].append(repr(error))

            return run

        client = threading.Thread(target=failing("client", be_client))
        client.start()
        failing("stranger", be_stranger)()
        is_over.set()
        client.join()
    assert found == {"stranger": [], "client": []}
    assert "stranger-0" in gateway.log
    assert "smuggled" not in gateway.log
