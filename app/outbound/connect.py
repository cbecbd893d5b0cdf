"""Resolves hosts and connects only to permitted addresses.

Both happen in one step, as a name that was checked earlier may resolve to another address now.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import httpcore

from app.domain.destination import Address, DestinationRules

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host name and port to addresses, as text; raises `OSError`."""
_CONNECT_SECONDS = 5.0
# A name can have any number of addresses.
_MAX_ADDRESSES = 4


class DestinationRefused(httpcore.ConnectError):
    """The host has no permitted address."""


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens a pool's connections after checking their addresses."""

    def __init__(self, rules: DestinationRules, resolve: Resolve | None = None) -> None:
        self._rules = rules
        self._resolve = resolve or resolve_host
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- the base's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host's first reachable permitted address."""
        seconds = _CONNECT_SECONDS if timeout is None else min(timeout, _CONNECT_SECONDS)
        failure: Exception = DestinationRefused("The host has no permitted address.")
        for address in await self._permitted(host, port):
            try:
                return await self._network.connect_tcp(
                    str(address), port, seconds, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Sleep between the pool's attempts."""
        await self._network.sleep(seconds)

    async def _permitted(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"Host name not resolved: {error.strerror or error}.") from error
        addresses = [ipaddress.ip_address(text) for text in found]
        return [address for address in addresses if self._rules.permits(address)][:_MAX_ADDRESSES]


async def resolve_host(
    host: str, port: int, *, getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo
) -> list[str]:
    """Resolve a name with the system's resolver; raises OSError."""
    # A lookup can't be canceled and may take half a minute. On shared threads, a few dead names would delay all others;
    # non-daemon threads would delay the end of the process.
    found: Future[list[Any]] = Future()
    # Canceling the caller must not cancel this future, or the thread couldn't set it.
    found.set_running_or_notify_cancel()

    def work() -> None:
        try:
            found.set_result(getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except UnicodeError:  # an empty or overlong label
            found.set_exception(OSError("not a host name"))
        except OSError as error:
            found.set_exception(error)

    threading.Thread(target=work, name="resolve-host", daemon=True).start()
    return [str(info[4][0]) for info in await asyncio.wrap_future(found)]
