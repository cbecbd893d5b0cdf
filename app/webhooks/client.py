"""Posts webhooks."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import replace

import httpcore
import httpx

from app import __version__
from app.domain.delivery import KEPT_RESPONSE_BYTES, TRY_TIMEOUT_MS, DeliveryResponse
from app.domain.destination import DestinationRules
from app.outbound.connect import Resolve
from app.outbound.requests import describe, open_pool, retry_after_of, stream


class WebhookClient:
    """Posts to user-supplied URLs, each over a fresh connection to a checked address."""

    def __init__(
        self,
        rules: DestinationRules,
        *,
        resolve: Resolve | None = None,
        timeout: float = TRY_TIMEOUT_MS / 1000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout
        self._pool = open_pool(rules, resolve=resolve, tls=tls)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryResponse:
        """Post once. Network errors are returned, not raised."""
        response = DeliveryResponse(None, f"No response within {self._timeout:g} s.")
        general = {
            "user-agent": f"nanobanana-gateway/{__version__}",
            "accept": "*/*",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        try:
            async with (
                asyncio.timeout(self._timeout),
                stream(self._pool, "POST", httpx.URL(url), {**general, **headers}, content=body) as reply,
            ):
                response = _read_head(reply)
                response = replace(response, response=await _read_start(reply))
        except TimeoutError:
            # The status counts even if the body doesn't arrive.
            return response
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            httpx.InvalidURL,
            OSError,
            ValueError,
        ) as error:
            return response if response.status is not None else DeliveryResponse(None, describe(error))
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def _read_head(reply: httpcore.Response) -> DeliveryResponse:
    is_redirect = httpx.codes.is_redirect(reply.status)
    error = "The receiver responded with a redirect; redirects are not followed." if is_redirect else None
    return DeliveryResponse(reply.status, error, retry_after=retry_after_of(reply))


async def _read_start(reply: httpcore.Response) -> bytes:
    """Read the beginning of a body, which may be endless."""
    start = bytearray()
    async for chunk in reply.aiter_stream():
        start += chunk
        if len(start) >= KEPT_RESPONSE_BYTES:
            break
    return bytes(start[:KEPT_RESPONSE_BYTES])
