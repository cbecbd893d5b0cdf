"""A minimal upstream that accepts every submit immediately.

`GET /arrivals` returns the submits since the last call: `[[nanoseconds since the epoch, body], …]`.
"""

import argparse
import asyncio
import json
import time
import uuid
from collections import deque
from typing import cast

import uvloop

from benchmarks.client import content_length

_KEPT = 1_000


class _Upstream(asyncio.Protocol):
    def __init__(self, arrivals: deque[tuple[int, str]]) -> None:
        self._arrivals = arrivals
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        now = time.time_ns()
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head) or self._transport is None:
            return
        self._received = b""
        self._transport.write(self._answer(head, body, now))

    def _answer(self, head: bytes, body: bytes, now: int) -> bytes:
        if head.startswith(b"GET /arrivals"):
            content = json.dumps(list(self._arrivals)).encode()
            self._arrivals.clear()
        elif head.startswith(b"POST"):
            self._arrivals.append((now, body.decode()))
            content = b'{"code":200,"msg":"success","data":{"taskId":"%s"}}' % uuid.uuid4().hex.encode()
        elif b"/record-info" in head:
            content = b'{"code":200,"msg":"success","data":{"successFlag":0,"response":null}}'
        else:
            content = b"{}"
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content) + content
        )


async def _serve(port: int) -> None:
    arrivals: deque[tuple[int, str]] = deque(maxlen=_KEPT)
    server = await asyncio.get_running_loop().create_server(lambda: _Upstream(arrivals), "127.0.0.1", port)
    await server.serve_forever()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    _main()
