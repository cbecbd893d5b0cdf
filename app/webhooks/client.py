"""Posts webhooks."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpcore
import httpx

from app import __version__
from app.domain.delivery import KEPT_RESPONSE_BYTES, TRY_TIMEOUT_MS, DeliveryResponse
from app.domain.destination import DestinationRules
from app.outbound.connect import Resolve
from app.outbound.requests import describe, open_pool, retry_after_of, stream

_MAX_IDLE_CONNECTIONS = 64
_MAX_RESPONSE_BYTES = 64 * 1024


class WebhookClient:
    """Posts to user-supplied URLs, connecting only to allowed addresses.

    Idle connections are reused for two seconds. If the receiver closes one just as a webhook is sent, the webhook is
    sent again over a new one: delivery is at least once anyway.
    """

    def __init__(
        self,
        rules: DestinationRules,
        *,
        resolve: Resolve | None = None,
        timeout: float = TRY_TIMEOUT_MS / 1000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        tls = tls or httpx.create_ssl_context()
        self._reusing = open_pool(rules, resolve=resolve, tls=tls, max_idle=_MAX_IDLE_CONNECTIONS)
        self._fresh = open_pool(rules, resolve=resolve, tls=tls)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryResponse:
        """Post once. Network errors are returned, not raised."""
        general = {
            "user-agent": f"nanobanana-gateway/{__version__}",
            "accept": "*/*",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        exchange, failure = _Exchange(), ""
        try:
            async with asyncio.timeout(self._timeout):
                target, all_headers = httpx.URL(url), {**general, **headers}
                try:
                    await exchange.run(self._reusing, target, all_headers, body)
                except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                    if exchange.has_connected or exchange.response is not None:
                        raise
                    await exchange.run(self._fresh, target, {**all_headers, "connection": "close"}, body)
        except TimeoutError:
            failure = f"No response within {self._timeout:g} s."
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            httpx.InvalidURL,
            OSError,
            ValueError,
        ) as error:
            failure = describe(error)
        # The status counts even if the body is lost.
        return exchange.response or DeliveryResponse(None, failure)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._reusing.aclose()
        await self._fresh.aclose()


class _Exchange:
    """One request and the response so far."""

    def __init__(self) -> None:
        self.response: DeliveryResponse | None = None
        self.has_connected = False
        """Whether a new connection was opened."""

    async def run(
        self, pool: httpcore.AsyncConnectionPool, url: httpx.URL, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Send the request and read the response."""
        async with stream(pool, "POST", url, headers, content=body, trace=self._trace) as reply:
            self.response = _read_head(reply)
            self.response = replace(self.response, response=await _read_start(reply))

    async def _trace(self, event: str, _info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.has_connected = True


def _read_head(reply: httpcore.Response) -> DeliveryResponse:
    is_redirect = httpx.codes.is_redirect(reply.status)
    error = "The receiver responded with a redirect; redirects are not followed." if is_redirect else None
    return DeliveryResponse(reply.status, error, retry_after=retry_after_of(reply))


async def _read_start(reply: httpcore.Response) -> bytes:
    """Read a body and return its beginning."""
    # Read to the end, as only then the connection can be reused.
    start, count = bytearray(), 0
    async for chunk in reply.aiter_stream():
        count += len(chunk)
        start += chunk[: KEPT_RESPONSE_BYTES - len(start)]
        if count >= _MAX_RESPONSE_BYTES:  # the body may be endless
            break
    return bytes(start)
