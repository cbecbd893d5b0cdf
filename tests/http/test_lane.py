"""What the connection owes to those who take the lane, whatever the lane does."""

import queue

from app.http.lane import Answer, Headers
from tests.http.application import Application
from tests.support.bare import BareServer
from tests.support.line import Line, request

LARGE = b"x" * 16_000_000
"""More than the system takes for a client that does not read."""
POST = request("/lane", method="POST", body=b"{}")


class LargeLane:
    """Answers more than is asked; what it answers is noted."""

    def __init__(self) -> None:
        self.notes: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def recognize(self, target: bytes) -> str | None:
        return "somebody" if target == b"/lane" else None

    async def answer(self, addressee: str, headers: Headers, body: bytes, client: tuple[str, int] | None) -> Answer:
        self.notes.put(body)
        return 200, [(b"content-length", b"%d" % len(LARGE))], LARGE


def test_who_reads_no_answers_gets_no_more_of_them() -> None:
    """Else they would pile up, at less cost to the client than to the service."""
    lane = LargeLane()
    with BareServer(Application(), lane=lane) as server, Line(server.port) as line, Line(server.port) as other:
        for _ in range(2):
            line.send(POST)
            assert lane.notes.get(timeout=10) == b"{}"
            other.ask("/short")
            assert other.answer().body == b"ok"
        assert server.connection(line.address).transport.get_write_buffer_size() < len(LARGE)
        for _ in range(2):
            assert line.answer().body == LARGE


def test_who_leaves_without_reading_is_let_go() -> None:
    lane = LargeLane()
    with BareServer(Application(), lane=lane) as server, Line(server.port) as line:
        for _ in range(2):
            line.send(POST)
            assert lane.notes.get(timeout=10) == b"{}"
        line.close()


class BrokenLane(LargeLane):
    """Has no answer."""

    async def answer(self, addressee: str, headers: Headers, body: bytes, client: tuple[str, int] | None) -> Answer:
        raise RuntimeError("there is no answer")


def test_who_gets_no_answer_is_not_kept_waiting() -> None:
    with BareServer(Application(), lane=BrokenLane()) as server, Line(server.port) as line:
        line.send(POST)
        assert line.rest() == b""
