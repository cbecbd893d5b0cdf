"""When log lines are written, and what happens on failure.

Runs separate processes.
"""

import json
import signal
import subprocess
import sys

import pytest

BEGIN = """
import asyncio, logging, os, signal, sys, threading
import structlog
from app.logging import configure_logs
configure_logs("json", "info", [])
ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
"""


@pytest.mark.parametrize(
    ("end", "status"), [("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL), ("os._exit(3)", 3)]
)
def test_the_last_lines_before_a_crash_are_written(end: str, status: int) -> None:
    program = f"""
async def crash():
    ours.info("first")
    theirs.warning("second")
    ours.info("third")
    {end}
asyncio.run(crash())
"""
    done = run(program)
    assert done.returncode == status
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["first", "second", "third"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_from_threads_are_not_mixed_in_a_pipe(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    program = """
def log(name):
    for number in range(200):
        ours.info("ours", name=name, filling=name * 5_000)
        theirs.warning("theirs %s", name * 5_000)
threads = [threading.Thread(target=log, args=[name]) for name in "abcd"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    lines = [json.loads(line) for line in run(program).stderr.splitlines()]
    assert len(lines) == 4 * 200 * 2
    assert all(line["filling"] == line["name"] * 5_000 for line in lines if line["event"] == "ours")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "2> >(exit 0)"])
def test_a_log_that_cannot_be_written_does_not_stop_work(
    monkeypatch: pytest.MonkeyPatch, redirect: str, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    program = """
import time
for number in range(20):
    ours.info("ours")
    theirs.warning("theirs")
    time.sleep(0.01)
print("worked")
"""
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {redirect}', "bash", sys.executable, "-c", BEGIN + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout, done.returncode) == ("worked\n", 0)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, text=True, check=False, timeout=60
    )
