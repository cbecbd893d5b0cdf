import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from app.domain.models import Model
from app.sandbox.behavior import Behavior
from app.sandbox.directives import parse
from app.sandbox.orders import read_order
from app.sandbox.plans import plan_task
from app.sandbox.server import SandboxServer
from app.sandbox.store import Store, Submit, Task
from tests.support.paths import ROOT
from tests.support.waiting import until

from .client import QUICK, Client
from .receiver import Receiver

_BEHAVIOR = Behavior.from_dict(QUICK)


@contextlib.contextmanager
def running(server: SandboxServer) -> Iterator[Client]:
    server.start()
    try:
        with Client(server.url) as client:
            yield client
    finally:
        server.stop()


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        SandboxServer(port=other.getsockname()[1]).start()


def test_start_and_stop_and_start() -> None:
    server = SandboxServer()
    with pytest.raises(RuntimeError):
        _ = server.url
    server.stop()
    for _ in range(2):
        with running(server) as client:
            client.accept("[sandbox: never]")
            with pytest.raises(RuntimeError):
                server.start()
    with pytest.raises(httpx.ConnectError), Client(server.url) as client:
        client.submit()


def test_stopping_is_prompt_whatever_goes_on(receiver: Receiver) -> None:
    server = SandboxServer(behavior=_BEHAVIOR)
    server.start()
    receiver.statuses = [0]
    outcome: list[Exception] = []

    def wait_for_reply() -> None:
        try:
            Client(server.url).submit("[sandbox: slow=60]")
        except httpx.HTTPError as error:
            outcome.append(error)

    with Client(server.url) as client:
        client.accept("[sandbox: delay=60]")
        client.accept(callBackUrl=receiver.url)
        receiver.raw()
        waiting = threading.Thread(target=wait_for_reply)
        waiting.start()
        until(lambda: len(client.submits()) >= 3, what="the third submit")
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 20, "what would take a minute was waited for"
    waiting.join(15)
    assert len(outcome) == 1


def test_a_state_outlives_a_restart(tmp_path: pathlib.Path, receiver: Receiver) -> None:
    state = tmp_path / "deep" / "sandbox.db"
    with running(SandboxServer(state=state, behavior=_BEHAVIOR)) as client:
        url = client.base_url
        done = client.accept("done")
        client.settled(done)
        picture = client.get(f"/images/{done}-1.png").content
        asleep = client.accept("asleep [sandbox: delay=0.3]", callBackUrl=receiver.url)
        late = client.accept("late [sandbox: late=0.3, repeat=2]", callBackUrl=receiver.url)
        scripted = "[sandbox: refuse_429*2]"
        assert client.submit(scripted).status_code == 429
    with running(SandboxServer(state=state, behavior=_BEHAVIOR)) as client:
        assert client.base_url == url
        assert client.get(f"/images/{done}-1.png").content == picture
        assert {receiver.next()["data"]["taskId"] for _ in range(3)} == {asleep, late}
        assert client.settled(asleep)["state"] == "succeeded"
        assert len(client.settled(late)["callbacks"]) == 2
        assert [client.submit(scripted).status_code for _ in range(2)] == [429, 200]
        assert len(client.submits()) == 6
        client.delete("/sandbox/state")
        assert client.tasks() == client.submits() == []


def test_the_port_changes_if_it_was_taken_meanwhile(tmp_path: pathlib.Path) -> None:
    server = SandboxServer(state=tmp_path / "sandbox.db")
    with running(server):
        first = server.url
    with socket.create_server(("127.0.0.1", int(first.rsplit(":", 1)[1]))), running(server):
        assert server.url != first


def test_a_file_that_is_no_state_is_an_error(tmp_path: pathlib.Path) -> None:
    state = tmp_path / "sandbox.db"
    state.write_text("something else entirely " * 100)
    with pytest.raises(OSError, match="can't use its state"):
        SandboxServer(state=state).start()


def test_old_tasks_and_submits_are_dropped_settled_ones_first(tmp_path: pathlib.Path) -> None:
    order = read_order(Model.NANO_BANANA_PRO, b'{"prompt": "a lake"}')
    plan = plan_task(_BEHAVIOR, parse("a lake"), "luck", Model.NANO_BANANA_PRO, is_early=False)
    kept = ["0", "1", "2", "3", "4", "123", "124", "125", "126", "127"]
    store = Store(tmp_path / "sandbox.db", keep=10)
    for n in range(128):
        store.add(Task(id=str(n), order=order, plan=plan, created_at=n, is_settled=n >= 5))
        store.add(Submit(id=str(n), at=n, path="/", headers={}, body=""))
    assert list(store.tasks) == kept
    assert list(store.submits) == [str(n) for n in range(118, 128)]
    store.close()
    again = Store(tmp_path / "sandbox.db")
    assert (again.tasks, again.submits) == (store.tasks, store.submits)
    again.close()


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:"), ("0.0.0.0", "http://127.0.0.1:")])
def test_hosts(host: str, url: str) -> None:
    server = SandboxServer(host=host)
    with running(server) as client:
        client.accept()
        assert server.url.startswith(url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_ends_cleanly(number: signal.Signals) -> None:
    code = "from app.sandbox.server import Behavior, run; run(host='127.0.0.1', port=0, behavior=Behavior())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert httpx.get(url, trust_env=False).status_code == 200
        os.kill(process.pid, number)
        assert process.wait(30) == 0
