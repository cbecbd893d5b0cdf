"""Work continues at once when the clock is set back."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import WrongClock
from tests.support.fixtures import Start
from tests.support.servers.vendor import Vendor, accepted, envelope, record
from tests.support.waiting import until

HOUR_MS = 3_600_000
SETTINGS: dict[str, Any] = {
    "upstream_rate_limit": "2/0.5",
    "upstream_timeout_seconds": 1,
    "poll_after_seconds": 0.5,
    "hold_retry_seconds": 0.5,
}


@pytest.mark.parametrize("restarts", [False, True], ids=["while it runs", "while it is down"])
def test_work_continues_when_the_clock_is_set_back_an_hour(
    start: Start, vendor: Vendor, tmp_path: Path, restarts: bool
) -> None:
    clock = WrongClock()
    gateway = start(clock=clock, **SETTINGS)
    busy = gateway.client.submit(prompt="taken")["id"]
    gateway.client.wait_for(busy, "processing")
    vendor.on_submit = lambda _: envelope(429, "slow", status=429)
    tasks = [gateway.client.submit()["id"] for _ in range(4)]
    until(lambda: any(gateway.client.task(task)["attempts"] for task in tasks), what="a refusal")
    if restarts:
        gateway.close()
    clock.ahead = -HOUR_MS
    if restarts:
        gateway = start(clock=clock, **SETTINGS)
    vendor.on_submit = lambda _: accepted()
    vendor.on_poll = lambda asked: record(asked, 1, response={"resultImageUrl": "https://tempfile.example/a.png"})
    tasks.append(gateway.client.submit()["id"])
    for task in [busy, *tasks]:
        assert gateway.client.wait_for(task, seconds=15)["status"] == "succeeded"
