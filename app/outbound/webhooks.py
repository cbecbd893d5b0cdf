"""Posting webhooks. It reports; it decides nothing and keeps nothing."""

import asyncio
import email.utils
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime

import httpcore
import httpx

from app import __version__
from app.domain.delivery import KEPT_RESPONSE_BYTES, TRY_TIMEOUT, Answer
from app.domain.destination import DestinationRules
from app.outbound.connect import GuardedNetwork, Resolve

_MAX_ERROR_CHARACTERS = 300
_LONGEST_NUMBER = 9
_NAME = re.compile(rb"[A-Za-z0-9._-]{1,253}")


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
        timeout: float = TRY_TIMEOUT / 1000,
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

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post once and tell what was answered. Never raises for anything that the network or the receiver does."""
        answer = Answer(None, f"No answer within {self._timeout:g} s.")
        try:
            async with asyncio.timeout(self._timeout):
                async with self._pool.stream(
                    "POST", _target(url), headers=_all_headers(url, body, headers), content=body
                ) as reply:
                    # What the status says holds, however long the rest then takes.
                    answer = _read_status(reply)
                    answer = Answer(answer.status, answer.error, await _read_start(reply), answer.retry_after)
        except TimeoutError:
            return answer
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            return answer if answer.status is not None else Answer(None, _words(error))
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, ssl.SSLError, OSError, ValueError) as error:
            return answer if answer.status is not None else Answer(None, _words(error))
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def problem_with(url: str, rules: DestinationRules) -> str | None:
    """Say what is wrong with a webhook's URL, as far as it shows without asking anybody; None if nothing is."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "is not a URL that can be called"
    if parsed.userinfo:
        return "must not contain a user name or password; what we send is signed"
    # As it is sent: its decoded form raises for names that resolve all the same, such as xn--ls8h.la.
    if b":" not in parsed.raw_host and not _NAME.fullmatch(parsed.raw_host):
        return "has no host name that can be looked up"
    if rules.forbids_host(parsed.raw_host.decode("ascii")):
        return "leads to an address that is not on the public internet, and ALLOW_NETWORKS does not name it"
    return None


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


def _read_status(reply: httpcore.Response) -> Answer:
    error = None
    if httpx.codes.is_redirect(reply.status):
        error = "The receiver answered with a redirect, which is not followed."
    values = [value for name, value in reply.headers if name.lower() == b"retry-after"]
    return Answer(reply.status, error, retry_after=read_retry_after(values[0].decode("latin-1")) if values else None)


def read_retry_after(text: str) -> int | None:
    """Read seconds or a date; returns milliseconds from now, None for what is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text.lstrip("0")[:_LONGEST_NUMBER] or "0") * 1000
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):  # the last for a year or a zone of any length
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(round((aware - datetime.now(UTC)).total_seconds() * 1000), 0)


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
