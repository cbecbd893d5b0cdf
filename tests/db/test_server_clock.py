"""The database server's clock, as a process counts it on."""

from app.db.engine.server_clock import ServerClock
from tests.support.clock import HandClock

_SERVER_TIME = 1_900_000_000_000


class Clocks:
    """A machine's two clocks, and the server's clock."""

    def __init__(self) -> None:
        self.system = HandClock()
        self.uptime_ms = 5_000
        self.server = ServerClock(self.system, lambda: self.uptime_ms * 1_000_000)

    def pass_time(self, milliseconds: int) -> None:
        self.system.advance(milliseconds)
        self.uptime_ms += milliseconds

    def reply(self, server_time: int, *, after_ms: int) -> None:
        asked_at = self.server.monotonic()
        self.pass_time(after_ms)
        self.server.set(server_time, asked_at=asked_at)


def test_until_the_first_reply_it_is_the_system_clock() -> None:
    clocks = Clocks()
    assert clocks.server.now() == clocks.system.now()
    assert clocks.server.skew_ms == 0


def test_it_counts_on_by_the_monotonic_clock_whatever_the_system_clock_is_set_to() -> None:
    clocks = Clocks()
    clocks.reply(_SERVER_TIME, after_ms=0)
    clocks.pass_time(1_500)
    clocks.system.advance(-3_600_000)
    assert clocks.server.now() == _SERVER_TIME + 1_500
    assert clocks.server.age_ms == 1_500


def test_a_slow_reply_does_not_move_a_time_that_it_does_not_contradict() -> None:
    clocks = Clocks()
    clocks.reply(_SERVER_TIME, after_ms=0)
    clocks.pass_time(1_000)
    # The server read its clock after 100 ms, but its reply took two seconds.
    clocks.reply(_SERVER_TIME + 1_100, after_ms=2_000)
    assert clocks.server.now() == _SERVER_TIME + 3_000


def test_a_server_whose_clock_was_set_is_followed() -> None:
    clocks = Clocks()
    clocks.reply(_SERVER_TIME, after_ms=0)
    for step in (60_000, -60_000):
        now = clocks.server.now() + step
        clocks.reply(now, after_ms=4)
        assert now <= clocks.server.now() <= now + 4


def test_the_skew_says_how_far_the_system_clock_is_ahead() -> None:
    clocks = Clocks()
    clocks.reply(clocks.system.now() - 40_000, after_ms=0)
    assert clocks.server.skew_ms == 40_000
    clocks.system.advance(-80_000)
    assert clocks.server.skew_ms == -40_000
