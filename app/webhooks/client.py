"""Posting webhooks. It reports; it decides nothing and keeps nothing."""

import asyncio
import ssl
from collections.abc import Mapping

import httpcore
import httpx

from app import __version__
from app.domain.delivery import KEPT_RESPONSE_BYTES, TRY_TIMEOUT_MS, DeliveryResponse
from app.domain.destination import DestinationRules
from app.outbound.connect import GuardedNetwork, Resolve
from app.outbound.retry_after import read_retry_after

_MAX_ERROR_CHARACTERS = 300


class WebhookClient:
    """Posts to URLs of strangers, each over a fresh connection that is checked where it goes.

    It speaks to the connection pool directly: no proxy of the environment, no redirect, no cookie comes in between.
    `tls` says whom to trust.
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
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=None,
            # An idle connection may be closed by the other side just as we send; a fresh one has no such doubt.
            max_keepalive_connections=0,
            network_backend=GuardedNetwork(rules, resolve),
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryResponse:
        """Post once and tell what was answered. Never raises for anything that the network or the receiver does."""
        answer = DeliveryResponse(None, f"No answer within {self._timeout:g} s.")
        try:
            async with asyncio.timeout(self._timeout):
                async with self._pool.stream(
                    "POST", _target(url), headers=_all_headers(url, body, headers), content=body
                ) as reply:
                    # What the status says holds, however long the rest then takes.
                    answer = _read_status(reply)
                    answer = DeliveryResponse(answer.status, answer.error, await _read_start(reply), answer.retry_after)
        except TimeoutError:
            return answer
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            return answer if answer.status is not None else DeliveryResponse(None, _words(error))
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, ssl.SSLError, OSError, ValueError) as error:
            return answer if answer.status is not None else DeliveryResponse(None, _words(error))
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def _target(url: str) -> httpcore.URL:
    parsed = httpx.URL(url)
    return httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)


def _all_headers(url: str, body: bytes, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    general = {
        "host": httpx.URL(url).netloc.decode("ascii"),
        "user-agent": f"nanobanana-gateway/{__version__}",
        "accept": "*/*",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
    }
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in {**general, **headers}.items()]


def _read_status(reply: httpcore.Response) -> DeliveryResponse:
    error = None
    if httpx.codes.is_redirect(reply.status):
        error = "The receiver answered with a redirect, which is not followed."
    values = [value for name, value in reply.headers if name.lower() == b"retry-after"]
    return DeliveryResponse(
        reply.status, error, retry_after=read_retry_after(values[0].decode("latin-1")) if values else None
    )


async def _read_start(reply: httpcore.Response) -> bytes:
    """Read the beginning of a body, which may be of any length or endless."""
    start = bytearray()
    async for chunk in reply.aiter_stream():
        start += chunk
        if len(start) >= KEPT_RESPONSE_BYTES:
            break
    return bytes(start[:KEPT_RESPONSE_BYTES])


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:_MAX_ERROR_CHARACTERS]
