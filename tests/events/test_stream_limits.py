"""Stream limits: silence, slow readers, too many streams, shutdown."""

import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.events.streams import StreamLimits
from app.serve import allow_many_connections
from app.web.open_requests import OpenLimits
from tests.support.clients.event_reader import EventReader
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import Reply, Vendor, accepted, envelope, success_a
from tests.support.waiting import until

Start = Callable[..., Served]
# Four bytes per character make an event of 80 KB. Socket buffers hold only a few of them.
LONG_PROMPT = "🍌" * 20_000


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda limits, open_limits=None: stack.enter_context(
            serve(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, stream_limits=limits, open_limits=open_limits)
        )


def refuse(served: Served, count: int) -> None:
    """Submit tasks that fail immediately with three large events each."""
    served.vendor.on_submit = lambda _: envelope(400, "no")
    for _ in range(count):
        served.client.submit(prompt=LONG_PROMPT)


def test_heartbeats_follow_silence(start: Start) -> None:
    served = start(StreamLimits(heartbeat_seconds=0.05))
    with served.follow() as stream:
        stream.wait(lambda s: s.comments.count("heartbeat") >= 3, what="heartbeats")
        refuse(served, 1)
        stream.wait(lambda s: len(s.events) == 3)


def test_a_slow_reader_is_cut_with_a_clear_event_and_resumes(start: Start) -> None:
    served = start(StreamLimits(max_waiting=30))
    with served.follow() as quick, served.follow(asleep=True) as slow:
        refuse(served, 80)
        quick.wait(lambda s: len(s.events) == 240, seconds=30)
        slow.wake()
        events = slow.wait_for_end()
        assert (events[-1].type, events[-1].id, events[-1].data["code"]) == ("stream.cut", None, "slow_reader")
        assert 0 < len(slow.ids) < 240
        with served.follow(last_id=slow.ids[-1]) as again:
            again.wait(lambda s: len(s.events) == 240 - len(slow.ids), seconds=30)
            assert slow.ids + again.ids == quick.ids


def test_a_long_replay_to_a_slow_reader_is_not_cut(start: Start) -> None:
    served = start(StreamLimits(max_waiting=5))
    refuse(served, 70)
    with served.follow(last_id=0, asleep=True) as slow:
        refuse(served, 10)
        slow.wake()
        slow.wait(lambda s: len(s.events) == 240, seconds=30)
        assert slow.ids == sorted(set(slow.ids))


def test_a_client_that_does_not_read_is_disconnected(start: Start) -> None:
    served = start(StreamLimits(stall_seconds=0.2))
    open_requests = served.gateway.container.events.open_requests
    with served.follow(asleep=True) as stream:
        refuse(served, 80)
        until(lambda: open_requests.count == 0, what="the end of the stream")
        stream.wake()
        stream.close()
        assert not stream.is_over


def test_a_client_that_disconnects_frees_its_stream(start: Start) -> None:
    served = start(StreamLimits(), OpenLimits(total=1, per_key=1))
    with served.follow() as stream, served.follow() as refused:
        assert (stream.status, refused.problem()) == (200, (503, "too_many_streams"))
        assert refused.headers["Retry-After"]
    until(lambda: served.gateway.container.events.open_requests.count == 0, what="the end of the stream")
    with served.follow() as stream:
        assert stream.status == 200


def test_waits_beyond_the_limit_get_an_immediate_response(start: Start) -> None:
    served = start(StreamLimits(), OpenLimits(total=0, per_key=0))
    posted = served.client.post("/v1/tasks", json={"prompt": "x"}, headers={"Prefer": "wait=60"})
    got = served.client.get(posted.headers["Location"], params={"wait": 60})
    assert (posted.status_code, got.status_code) == (202, 200)
    assert "Preference-Applied" not in posted.headers.keys() | got.headers.keys()


@pytest.mark.parametrize("now", [256, None])
def test_a_shells_limit_of_open_files_is_raised_and_never_lowered(now: int | None) -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (now or most, most))
    try:
        allow_many_connections()
        after = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert after == (most if now is None else 65_536 if most == resource.RLIM_INFINITY else min(most, 65_536))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_open_streams_do_not_delay_shutdown(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    served = start(StreamLimits(stop_seconds=0.2))
    task, _ = served.processing()
    path = f"/v1/tasks/{task['id']}/events"
    with served.follow() as project, served.follow(path) as of_task, served.follow(asleep=True) as asleep:
        refuse(served, 80)
        project.wait(lambda s: len(s.events) == 240, seconds=30)
        served.gateway.close()
        ends = [project.wait_for_end()[-1], of_task.wait_for_end()[-1]]
        assert [(end.type, end.data["code"]) for end in ends] == [("stream.cut", "service_unavailable")] * 2
        asleep.wake()
    # The server logs this if open connections delay the stop.
    assert "graceful shutdown exceeded" not in caplog.text


def test_waiting_requests_get_a_response_at_shutdown(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    served = start(StreamLimits())
    gate = threading.Event()
    task, _ = served.processing()
    served.vendor.on_submit = lambda _: Reply(accepted().body, gate=gate)
    with ThreadPoolExecutor(2) as pool:
        posted = pool.submit(served.client.post, "/v1/tasks", json={"prompt": "x"}, headers={"Prefer": "wait=60"})
        got = pool.submit(served.client.get, f"/v1/tasks/{task['id']}", params={"wait": 60})
        until(lambda: served.gateway.container.events.open_requests.count == 2, what="two who wait")
        served.gateway.begin_to_stop()
        assert (got.result().status_code, got.result().json()["status"]) == (200, "processing")
        assert (posted.result().status_code, posted.result().json()["status"]) == (202, "submitting")
        gate.set()
    served.gateway.close()
    assert "graceful shutdown exceeded" not in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stream_is_resumed_across_a_restart(tmp_path: Path, vendor: Vendor, number: signal.Signals) -> None:
    environment = {"NANOBANANA_API_KEY": "key", "NANOBANANA_BASE_URL": vendor.url, "SECRET_KEY": "s"}
    with GatewayProcess(tmp_path, environment) as before:
        url = str(before.client.base_url)
        with EventReader(url, "/v1/events") as stream:
            task = before.client.submit()
            stream.wait(lambda s: len(s.events) == 3)
            before.stop(number)
    with GatewayProcess(tmp_path, environment, port=before.port) as after:
        assert vendor.call_back(vendor.submits[0], success_a(stream.events[2].data["upstream_task_id"])).is_success
        with EventReader(url, "/v1/events", last_id=stream.ids[-1]) as again:
            other = after.client.submit()
            again.wait(lambda s: len(s.events) == 4)
    assert again.told[0] == (task["id"], "succeeded")
    assert again.statuses(other["id"]) == ["queued", "submitting", "processing"]
    assert stream.ids + again.ids == list(range(1, 8))
