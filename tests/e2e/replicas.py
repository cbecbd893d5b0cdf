"""Seconds until service resumes after failures of replicas or database.

To print the figures: python -m tests.e2e.replicas
"""

import argparse
import asyncio
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.support.databases.postgres import FAST, PostgresServer
from tests.support.servers.database_proxy import DatabaseProxy
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.vendor import Vendor
from tests.support.waiting import until

SETTINGS = {
    "NANOBANANA_API_KEY": "replicas-run",
    "SECRET_KEY": "replicas-run-secret",
    "UPSTREAM_RATE_LIMIT": "0",
    "POLL_AFTER_SECONDS": "600",
    "UPSTREAM_TIMEOUT_SECONDS": "5",
}
_KEY = 7_317
"""The advisory lock at which the frozen replica is stopped."""
_HOLD = f"""
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared({_KEY}); RETURN NULL; END $$;
CREATE TRIGGER hold AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION hold();
"""
_WAITS_THERE = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {_KEY} AND NOT granted"
_BODY = {"prompt": "a lake at sunset"}


@contextmanager
def replicas(directory: Path, count: int, url: str, **settings: str) -> Iterator[list[GatewayProcess]]:
    """Run replicas on one database, then kill them."""
    environment = {**SETTINGS, "DATABASE_URL": url, **settings}
    running = [GatewayProcess(directory / str(n), environment) for n in range(count)]
    try:
        yield running
    finally:
        for one in running:
            one.client.close()
            one.process.send_signal(signal.SIGCONT)
            one.process.send_signal(signal.SIGKILL)
            one.process.wait(10)


def seconds_until_accepted(replica: GatewayProcess, limit: float) -> float:
    """Submit until one is accepted; returns the seconds it took."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < limit:
        try:
            if replica.client.post("/v1/tasks", json=_BODY, timeout=limit).status_code == 202:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    return waited


async def freeze_before_commit(url: str, victim: GatewayProcess) -> "Future[int | None]":
    """Freeze a replica just before COMMIT; returns its submit's status.

    At that point it holds the lock on event numbers.
    """
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_HOLD)
        await connection.execute(f"SELECT pg_advisory_lock({_KEY})")
        submit = ThreadPoolExecutor(1).submit(_try_submit, victim)
        while not await connection.fetchval(_WAITS_THERE):
            pass
        victim.process.send_signal(signal.SIGSTOP)
    finally:
        await connection.close()  # releases the lock
    return submit


def _try_submit(replica: GatewayProcess) -> int | None:
    """Submit; returns the status, or None without a response."""
    with suppress(httpx.HTTPError):
        return replica.client.post("/v1/tasks", json=_BODY, timeout=120).status_code
    return None


def frozen(directory: Path, server: PostgresServer, limit: float = 60.0) -> dict[str, Any]:
    """Freeze one of two replicas before COMMIT; watch the other."""
    vendor, url = Vendor(), server.create_database()
    try:
        with replicas(directory, 2, url, NANOBANANA_BASE_URL=vendor.url) as (victim, other):
            frozen_submit = asyncio.run(freeze_before_commit(url, victim))
            began = time.monotonic()
            ready: list[tuple[float, int]] = []
            stop = threading.Event()

            def watch() -> None:
                with httpx.Client(base_url=f"http://127.0.0.1:{other.port}", timeout=60, trust_env=False) as client:
                    while not stop.wait(0.2):
                        status = client.get("/readyz").status_code
                        ready.append((time.monotonic() - began, status))

            watching = threading.Thread(target=watch, daemon=True)
            watching.start()
            recovered = seconds_until_accepted(other, limit)
            time.sleep(0.5)
            stop.set()
            watching.join(60)
            victim.process.send_signal(signal.SIGCONT)
            woken = seconds_until_accepted(victim, limit)
            red = [at for at, status in ready if status == 503]
            submitted = other.client.get("/v1/tasks", params={"limit": 200}).json()["data"]
            ended = [other.client.wait_for(task["id"], "processing")["id"] for task in submitted]
            sent = Counter(submit.callback_url for submit in vendor.submits)
            return {
                "frozen_submit": frozen_submit.result(limit),
                "tasks": len(submitted),
                "accepted": 2,  # one by each replica
                "lost": len(submitted) - len(ended),
                "doubled": sum(1 for count in sent.values() if count > 1),
                "recovered_seconds": round(recovered, 1),
                "first_503_of_readyz": round(red[0], 1) if red else None,
                "woken_replica_accepts_after": round(woken, 1),
            }
    finally:
        vendor.close()


def few_connections(directory: Path, limit: float = 60.0, connections: int = 22) -> dict[str, Any]:
    """Restart a server with few connections while three replicas read.

    All replicas must be able to write again.
    """
    with PostgresServer(options=(*FAST, f"max_connections={connections}")) as server:
        vendor, url = Vendor(), server.create_database()
        try:
            with replicas(directory, 3, url, NANOBANANA_BASE_URL=vendor.url) as running, reading(running):
                before = [round(seconds_until_accepted(one, limit), 1) for one in running]
                server.stop()
                server.start()
                began = time.monotonic()
                after = [round(seconds_until_accepted(one, limit), 1) for one in running]
                return {"before": before, "after": after, "all": round(time.monotonic() - began, 1)}
        finally:
            vendor.close()


@contextmanager
def reading(running: list[GatewayProcess], clients: int = 8) -> Iterator[None]:
    """Let clients of each replica list tasks continuously."""
    stop = threading.Event()

    def read(replica: GatewayProcess) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{replica.port}", timeout=60, trust_env=False) as client:
            while not stop.wait(0.02):
                with suppress(httpx.HTTPError):
                    client.get("/v1/tasks")

    threads = [threading.Thread(target=read, args=(one,), daemon=True) for one in running for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()


def silent(directory: Path, server: PostgresServer, seconds: float = 30.0) -> dict[str, Any]:
    """Silence the database; returns the longest response times.

    Also returns how long a stop takes then.
    """
    vendor = Vendor()
    try:
        with (
            DatabaseProxy(server.create_database()) as proxy,
            replicas(directory, 1, proxy.url, NANOBANANA_BASE_URL=vendor.url) as (replica,),
        ):
            task_id = replica.client.submit()["id"]
            callback = vendor.wait_for_submits(1)[0].callback_url
            proxy.fall_silent()
            paths = {
                "submit": ("POST", "/v1/tasks"),
                "get": ("GET", f"/v1/tasks/{task_id}"),
                "list": ("GET", "/v1/tasks"),
                "readyz": ("GET", "/readyz"),
                "callback": ("POST", callback),
                "cancel": ("POST", f"/v1/tasks/{task_id}/cancel"),
            }
            longest = dict.fromkeys(paths, 0.0)
            until_then = time.monotonic() + seconds

            def request(name: str) -> None:
                method, path = paths[name]
                base = f"http://127.0.0.1:{replica.port}"
                body = _BODY if name == "submit" else {"code": 501, "msg": "no", "data": {"taskId": "x"}}
                with httpx.Client(base_url=base, timeout=120, trust_env=False) as client:
                    while time.monotonic() < until_then:
                        began = time.monotonic()
                        client.request(method, path, json=body if method == "POST" else None)
                        longest[name] = max(longest[name], time.monotonic() - began)
                        time.sleep(0.05)

            threads = [threading.Thread(target=request, args=(name,), daemon=True) for name in paths for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            replica.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            until(lambda: replica.process.poll() is not None, seconds=150, what="the end")
            stopped = time.monotonic() - began
            return {"longest": {k: round(v, 1) for k, v in longest.items()}, "stopped_seconds": round(stopped, 1)}
    finally:
        vendor.close()


def stopped(directory: Path, server: PostgresServer, *, requests: int = 4) -> float:
    """Silence the database, then stop; returns the seconds this takes."""
    vendor = Vendor()
    try:
        with (
            DatabaseProxy(server.create_database()) as proxy,
            replicas(directory, 1, proxy.url, NANOBANANA_BASE_URL=vendor.url) as (replica,),
        ):
            replica.client.submit()
            vendor.wait_for_submits(1)
            proxy.fall_silent()
            for _ in range(requests):
                threading.Thread(target=_try_submit, args=(replica,), daemon=True).start()
            time.sleep(1)  # so that every loop is in the middle of a step
            replica.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            until(lambda: replica.process.poll() is not None, seconds=150, what="the end")
            return round(time.monotonic() - began, 1)
    finally:
        vendor.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["frozen", "silent", "stopped", "few"])
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as name, PostgresServer() as server:
        directory = Path(name)
        runs: dict[str, Callable[[], Any]] = {
            "frozen": lambda: frozen(directory / "frozen", server),
            "silent": lambda: silent(directory / "silent", server),
            "stopped": lambda: stopped(directory / "stopped", server),
            "few": lambda: few_connections(directory / "few"),
        }
        for one in what:
            print(one, runs[one](), flush=True)  # noqa: T201 -- a command's output


if __name__ == "__main__":
    main()
