"""A TLS proxy for PostgreSQL, as hosting providers have.

The tests' own server is built without TLS."""

import asyncio
import queue
import ssl
import struct
import threading
from contextlib import suppress
from typing import Self

import trustme

_SSL_REQUEST = struct.pack("!ll", 8, 80_877_103)


class TlsFront:
    """Accepts TLS connections on loopback and forwards their content."""

    def __init__(self, authority: trustme.CA, server_port: int) -> None:
        self._server_port = server_port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._ports: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=asyncio.run, args=[self._run()])
        self._thread.start()
        self.port = self._ports.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._is_over = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self._ports.put(server.sockets[0].getsockname()[1])
            await self._is_over.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(self._tls)
                theirs, ours = await asyncio.open_connection("127.0.0.1", self._server_port)
                await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(65_536):
            writer.write(block)
            await writer.drain()
    writer.close()
