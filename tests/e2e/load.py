"""Clients that retry each order with its key until accepted."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from tests.support.records import Records

T = TypeVar("T")


@dataclass
class Load:
    """Orders `count` tasks from `clients` threads at changing `addresses`."""

    addresses: Callable[[], list[str]]
    count: int
    clients: int = 8
    pause: float = 0.0
    extra: dict[str, str] = field(default_factory=dict)
    """Additional fields of each order."""
    accepted: dict[str, str] = field(default_factory=dict)
    """Task ids by idempotency key."""
    answers: Counter[int | str] = field(default_factory=Counter)
    """Counts of HTTP statuses and connection errors."""
    odd_answers: list[str] = field(default_factory=list)
    """Responses that no client should ever get."""

    def __post_init__(self) -> None:
        self._left = [uuid.uuid4().hex for _ in range(self.count)]
        self._records = Records()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(self.clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, look: Callable[[], T | None], *, seconds: float, what: str) -> T:
        """Wait until `look` finds something in these records."""
        return self._records.wait_for(look, seconds=seconds, what=what)

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.01))
        assert not any(thread.is_alive() for thread in self._threads), f"the load is stuck: {self.answers}"

    def _work(self, number: int) -> None:
        with httpx.Client(timeout=15) as client:
            while True:
                with self._records:
                    if not self._left:
                        return
                    key = self._left.pop()
                self._order(client, key, number)
                time.sleep(self.pause)

    def _order(self, client: httpx.Client, key: str, number: int) -> None:
        attempt = number
        while True:
            addresses = self.addresses()
            attempt += 1
            try:
                response = client.post(
                    f"{addresses[attempt % len(addresses)]}/v1/tasks",
                    json={"prompt": f"order {key}", "metadata": {"key": key}, **self.extra},
                    headers={"Idempotency-Key": key},
                )
            except httpx.TransportError as error:
                with self._records:
                    self.answers[type(error).__name__] += 1
                time.sleep(0.05)
                continue
            with self._records:
                self.answers[response.status_code] += 1
                if response.status_code == httpx.codes.ACCEPTED:
                    self.accepted[key] = response.json()["id"]
                    return
                if not _is_proper_refusal(response):
                    self.odd_answers.append(f"{response.status_code} {response.headers} {response.text}")
            time.sleep(0.05)


def _is_proper_refusal(response: httpx.Response) -> bool:
    if response.headers["content-type"] != "application/problem+json":
        return False
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return "retry-after" in response.headers and response.json()["code"] == "service_unavailable"
    return response.status_code == httpx.codes.CONFLICT and response.json()["code"] == "idempotency_in_progress"
