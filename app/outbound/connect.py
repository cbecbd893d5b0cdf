"""Connections that go only where they may: names are looked up, checked and connected to in one step.

Checking a name before the request is not enough, as it may resolve to something else a moment later. Here the address
that was checked is the address that is connected to.
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
"""Looks a host name up; returns its addresses as text, or raises `OSError`."""
_CONNECT_SECONDS = 5.0
# Whoever owns a name decides how many addresses it has.
_MAX_ADDRESSES = 4


class DestinationRefused(httpcore.ConnectError):
    """The host has no address that may be connected to."""


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """What a connection pool opens its connections with."""

    def __init__(self, rules: DestinationRules, resolve: Resolve | None = None) -> None:
        self._rules = rules
        self._resolve = resolve or look_up
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- the base's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that may be reached and can be."""
        patience = _CONNECT_SECONDS if timeout is None else min(timeout, _CONNECT_SECONDS)
        failure: Exception = DestinationRefused("The host's address is not one that may be reached.")
        for address in await self._permitted(host, port):
            try:
                return await self._network.connect_tcp(
                    str(address), port, patience, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Wait, as the pool asks between tries."""
        await self._network.sleep(seconds)

    async def _permitted(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"The host name can't be resolved: {error.strerror or error}.") from error
        addresses = [ipaddress.ip_address(text) for text in found]
        return [address for address in addresses if self._rules.permits(address)][:_MAX_ADDRESSES]


async def look_up(host: str, port: int, *, getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo) -> list[str]:
    """Ask the system's resolver, on a thread of its own.

    A look-up can't be broken off and may take half a minute. On a shared pool of threads a few dead names would hold
    up all others; and a thread that is waited for would hold up the end of the process.
    """
    found: Future[list[Any]] = Future()
    # From here on a caller that is cancelled leaves the future alone, so that the thread can always set it.
    found.set_running_or_notify_cancel()

    def work() -> None:
        try:
            found.set_result(getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except UnicodeError:  # a label that is empty or too long
            found.set_exception(OSError("not a host name"))
        except OSError as error:
            found.set_exception(error)

    threading.Thread(target=work, name="look-up", daemon=True).start()
    return [str(info[4][0]) for info in await asyncio.wrap_future(found)]
