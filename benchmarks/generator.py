"""The bundled load generator, run as a subprocess.

`python -m benchmarks.generator FILE --port N` prints JSON.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.client import content_length

_PATIENCE_SECONDS = 15.0
_OK = range(200, 300)


class _Load:
    """State shared by all connections: requests, end time and results."""

    def __init__(self, requests: list[bytes], *, is_once: bool, seconds: float) -> None:
        self._left: Iterator[bytes] = iter(requests) if is_once else cycle(requests)
        self.ends_at = time.perf_counter() + seconds
        self.latencies: list[float] = []
        self.refused = 0
        self.broken = 0
        self.is_used_up = False

    def next(self) -> bytes | None:
        if time.perf_counter() >= self.ends_at:
            return None
        request = next(self._left, None)
        if request is None:
            self.is_used_up = True
        return request


class _Connection(asyncio.Protocol):
    """One connection, which waits for each response before sending."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.answers = 0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            return
        self._received = b""
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        if int(head[9:12]) in _OK:
            self.answers += 1
        else:
            self._load.refused += 1
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ended.done():
            self._load.broken += 1
            self.ended.set_result(None)

    def _send(self) -> None:
        request = self._load.next()
        if request is None or self._transport is None:
            self.ended.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


async def _connect(load: _Load, port: int) -> _Connection | None:
    try:
        _, connection = await asyncio.get_running_loop().create_connection(lambda: _Connection(load), "127.0.0.1", port)
    except OSError:
        load.broken += 1
        return None
    return connection


async def _run(requests: list[bytes], *, port: int, connections: int, seconds: float, is_once: bool) -> str:
    began = time.perf_counter()
    load = _Load(requests, is_once=is_once, seconds=seconds)
    opened = [one for one in [await _connect(load, port) for _ in range(connections)] if one]
    _, silent = await asyncio.wait([one.ended for one in opened], timeout=seconds + _PATIENCE_SECONDS)
    load.broken += len(silent)
    took = time.perf_counter() - began
    latencies = sorted(load.latencies) or [0.0]
    percentiles = statistics.quantiles([*latencies, latencies[-1]], n=100)
    result = {
        "answered": sum(one.answers for one in opened),
        "refused": load.refused,
        "broken": load.broken,
        "seconds": took,
        "p50": percentiles[49],
        "p99": percentiles[98],
        "longest": latencies[-1],
        "per_connection": [one.answers for one in opened],
        "is_used_up": load.is_used_up,
    }
    return json.dumps(result)


def read_requests(path: Path) -> list[bytes]:
    """Read a file written by `load.write_requests`."""
    requests = []
    with path.open("rb") as file:
        while line := file.readline():
            requests.append(file.read(int(line)))
    return requests


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args()
    requests = read_requests(given.file)
    work = _run(requests, port=given.port, connections=given.connections, seconds=given.seconds, is_once=given.once)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(work))


if __name__ == "__main__":
    _main()
