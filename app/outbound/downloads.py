"""Downloads images from user-supplied URLs."""

import asyncio
import hashlib
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import httpcore
import httpx

from app.domain.destination import DestinationRules
from app.outbound.connect import DestinationRefused, Resolve
from app.outbound.requests import describe, header, open_pool, retry_after_of, stream
from app.outbound.urls import problem_with

_MAX_REDIRECTS = 3
_MAX_URL_CHARACTERS = 8192
_MAX_PORT = 65_535
_WRITE_BYTES = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Image hosts may respond 403 or 404 until a new image reaches their caches.
_TEMPORARY_STATUSES = frozenset({403, 404, 408, 421, 425, 429})
# The headers of gzip and zlib. No image begins like this.
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_HEAD_BYTES = 2
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_HEADERS = {
    # Image hosts reject clients that don't look like a browser.
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    # Without WebP, as servers that convert to it make a lossy copy.
    "accept": "image/png,image/jpeg,*/*;q=0.5",
    # Images are already compressed, and compressed content may expand to any size.
    "accept-encoding": "identity",
    # Connections to image hosts are not reused.
    "connection": "close",
}
_REFUSED = "The URL points to a private address that is not in ALLOW_NETWORKS."


@dataclass(frozen=True, slots=True)
class Download:
    """A downloaded file; `sha256` is lowercase hex.

    `is_whole` is False if the server announced no length, so that the file may have been truncated.
    """

    sha256: str
    bytes: int
    is_whole: bool


class Recovery(Enum):
    """Whether to retry a failed download."""

    LIKELY = "likely"
    EARLY = "early"
    """Only in the first minutes: the image may not be ready yet."""
    NEVER = "never"


class DownloadFailed(Exception):
    """A failed download.

    `reason` is for people and omits the URL. `retry_after` is the server's, in milliseconds.
    """

    def __init__(self, reason: str, recovery: Recovery, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.recovery = recovery
        self.retry_after = retry_after


class Downloads:
    """Downloads files over fresh connections to permitted addresses.

    Addresses of `trusted_origin` (such as `http://127.0.0.1:4711`, the embedded sandbox) are not checked; other ports
    of that host and redirects from it are. `tls` sets the trusted certificates.
    """

    def __init__(
        self,
        rules: DestinationRules,
        *,
        trusted_origin: str | None = None,
        resolve: Resolve | None = None,
        total_seconds: float = 60,
        stall_seconds: float = 15,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._trusted = _origin(httpx.URL(trusted_origin)) if trusted_origin else None
        self._total_seconds = total_seconds
        self._stall_seconds = stall_seconds
        self._guarded = open_pool(rules, resolve=resolve, tls=tls)
        self._plain = httpcore.AsyncConnectionPool(max_connections=None, max_keepalive_connections=0)

    async def fetch(self, url: str, into: Path, *, max_bytes: int) -> Download:
        """Download a URL to a file; raises `DownloadFailed`.

        Raises `OSError` if the file can't be written.
        """
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._follow(url, into, max_bytes)
        except TimeoutError:
            raise _temporary(f"The download took longer than {self._total_seconds:g} s.") from None
        except DestinationRefused:
            raise _permanent(_REFUSED) from None
        except httpcore.TimeoutException:
            raise _temporary("The server did not respond, or stopped sending data.") from None
        except (httpcore.ConnectError, ssl.SSLError) as error:
            raise _temporary(f"The connection failed: {describe(error)}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, zlib.error) as error:
            raise _temporary(f"The transfer was interrupted: {describe(error)}") from error
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, ValueError) as error:
            raise _permanent(f"The URL is invalid: {describe(error)}") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._guarded.aclose()
        await self._plain.aclose()

    async def _follow(self, url: str, into: Path, max_bytes: int) -> Download:
        for _ in range(_MAX_REDIRECTS + 1):
            target = self._check(url)
            pool = self._plain if _origin(target) == self._trusted else self._guarded
            async with stream(pool, "GET", target, _HEADERS, step_seconds=self._stall_seconds) as response:
                if response.status not in _REDIRECTS:
                    return await _save(response, into, max_bytes)
                location = _location(response)
            if location is None:
                raise _permanent("The server sent a redirect without a location.")
            url = str(target.join(location))
        raise _permanent(f"There were more than {_MAX_REDIRECTS} redirects.")

    def _check(self, url: str) -> httpx.URL:
        """Parse and check a URL without a DNS lookup."""
        if len(url) > _MAX_URL_CHARACTERS:
            raise _permanent("The URL is too long.")
        target = httpx.URL(url)
        if target.scheme not in {"http", "https"}:
            raise _permanent("The URL is not http(s).")
        if target.userinfo:
            raise _permanent("The URL must not contain a user name or password.")
        if target.port is not None and not 0 < target.port <= _MAX_PORT:
            raise _permanent("The URL has an invalid port.")
        if _origin(target) != self._trusted and (problem := problem_with(url, self._rules)) is not None:
            raise _permanent(f"The URL {problem}.")
        return target


async def _save(response: httpcore.Response, into: Path, max_bytes: int) -> Download:
    if response.status != HTTPStatus.OK:
        raise DownloadFailed(
            f"The server responded with {response.status}.",
            _recovery_from(response.status),
            retry_after=retry_after_of(response),
        )
    declared = header(response, b"content-length") or ""
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    digest, count = hashlib.sha256(), 0
    with into.open("wb") as file:
        async for block in _blocks(_plain(response, max_bytes), max_bytes):
            await asyncio.to_thread(_write, file, digest, block)
            count += len(block)
    if not count:
        raise _temporary("The server sent an empty file.")
    is_chunked = "chunked" in (header(response, b"transfer-encoding") or "").lower()
    return Download(digest.hexdigest(), count, is_whole=is_chunked or declared.isdigit())


def _recovery_from(status: int) -> Recovery:
    if status in _TEMPORARY_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Recovery.LIKELY
    return Recovery.NEVER if status == HTTPStatus.GONE else Recovery.EARLY


def _location(response: httpcore.Response) -> str | None:
    """Return a redirect's target, if any."""
    # Some servers send UTF-8, which must be escaped.
    raw = next((value for key, value in response.headers if key.lower() == b"location"), None)
    return None if raw is None else raw.decode("utf-8", errors="backslashreplace")


async def _plain(response: httpcore.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """Decompress a body of at most `max_bytes`, if necessary.

    What follows compressed content is not read, because the decoder would keep it in memory.
    """
    # `Content-Encoding` may be wrong, so only the bytes count.
    decoder: Any = None
    head, count = b"", 0
    async for chunk in response.aiter_stream():
        # Compressed content may expand to nothing.
        count += len(chunk)
        if count > max_bytes:
            raise _too_large(max_bytes)
        packed = chunk
        if len(head) < _HEAD_BYTES:
            head += chunk
            if len(head) < _HEAD_BYTES:
                continue
            packed = head
            decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if head.startswith(_COMPRESSED) else None
        if decoder is None:
            yield packed
            continue
        while packed:
            yield await asyncio.to_thread(decoder.decompress, packed, _WRITE_BYTES)
            packed = decoder.unconsumed_tail
        if decoder.eof:
            return
    if len(head) < _HEAD_BYTES:
        yield head
    if decoder is not None:
        raise _temporary("The transfer was interrupted: the compressed file is incomplete.")


async def _blocks(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Join small chunks of a body into larger blocks."""
    block, count = bytearray(), 0
    async for chunk in chunks:
        count += len(chunk)
        if count > max_bytes:
            raise _too_large(max_bytes)
        block += chunk
        if len(block) >= _WRITE_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _write(file: BinaryIO, digest: "hashlib._Hash", block: bytes) -> None:
    digest.update(block)
    file.write(block)


def _origin(url: httpx.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host, url.port or (443 if url.scheme == "https" else 80)


def _temporary(reason: str) -> DownloadFailed:
    return DownloadFailed(reason, Recovery.LIKELY)


def _permanent(reason: str) -> DownloadFailed:
    return DownloadFailed(reason, Recovery.NEVER)


def _too_large(max_bytes: int) -> DownloadFailed:
    return _permanent(f"The file has more than {max_bytes:,} bytes.")
