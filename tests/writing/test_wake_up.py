"""Wake-ups on asyncio and uvloop, whose timers behave differently."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from app.writing.wake_up import WakeUp


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_earliest_scheduled_wake_up_comes_first(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def waits() -> float:
        wake_up = WakeUp()
        for seconds in (0, 0, 30, 0.001, 0, 60):
            wake_up.wake_after(seconds)
        began = time.monotonic()
        await wake_up.wait(20)
        return time.monotonic() - began

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(waits()) < 10


def test_scheduled_wake_ups_do_not_pile_up() -> None:
    class CountingLoop(asyncio.SelectorEventLoop):
        planned = 0

        def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
            self.planned += 1
            return super().call_at(*args, **kwargs)

    async def plan() -> int:
        wake_up = WakeUp()
        for _ in range(500):
            wake_up.wake_after(30)
        return getattr(asyncio.get_running_loop(), "planned", -1)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(plan()) == 1
