"""Fetching pictures from addresses that somebody else chose. It reports; it decides nothing and keeps nothing."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpcore
import httpx

from app.domain.destination import DestinationRules
from app.outbound.connect import DestinationRefused, GuardedNetwork, Resolve
from app.outbound.retry_after import read_retry_after
from app.outbound.urls import problem_with

_MAX_REDIRECTS = 3
_MAX_URL_CHARACTERS = 8192
_LAST_PORT = 65_535
_WRITE_BYTES = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Servers of images give a new picture to their caches only after a while: till then it is not there, or not for us.
_PASSING = frozenset({403, 404, 408, 421, 425, 429})
_HEADERS = {
    # Servers of images turn away what doesn't look like a browser.
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "accept": "image/webp,image/png,image/jpeg,image/gif,image/*;q=0.8,*/*;q=0.5",
    # Pictures are compressed already; what is packed again may unpack to any size.
    "accept-encoding": "identity",
    "connection": "close",
}


@dataclass(frozen=True, slots=True)
class Download:
    """What was written: its SHA-256 in lower-case hex, and how many bytes.

    `is_whole` says that the source told where the file ends. If it did not, it may have been cut off on the way.
    """

    sha256: str
    bytes: int
    is_whole: bool


class DownloadFailed(Exception):
    """Nothing whole was fetched.

    `reason` is in words for people, without the address; `may_recover` says whether to try again, `retry_after` after
    how many seconds if the source said so.
    """

    def __init__(self, reason: str, *, may_recover: bool, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_recover = may_recover
        self.retry_after = retry_after


class Downloads:
    """Fetches URLs of strangers, each over a fresh connection that is checked where it goes.

    `trusted_origin` (such as `http://127.0.0.1:4711`, the embedded sandbox) may be fetched from wherever it is; no
    other port of that host, and where it redirects to is judged like everything else. `tls` says whom to trust.
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
        self._guarded = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=GuardedNetwork(rules, resolve),
        )
        self._plain = httpcore.AsyncConnectionPool(max_connections=None, max_keepalive_connections=0)

    async def fetch(self, url: str, into: Path, *, max_bytes: int) -> Download:
        """Write what a URL has to a file; raises `DownloadFailed`."""
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._follow(url, into, max_bytes)
        except TimeoutError:
            raise _passing(f"It took longer than {self._total_seconds:g} s.") from None
        except DestinationRefused:
            raise DownloadFailed(_REFUSED, may_recover=False) from None
        except httpcore.TimeoutException:
            raise _passing("The server did not answer or stopped sending.") from None
        except (httpcore.ConnectError, ssl.SSLError) as error:
            raise _passing(f"No connection: {_words(error)}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _passing(f"The transfer broke off: {_words(error)}") from error
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, ValueError) as error:
            raise DownloadFailed(f"The address can't be called: {_words(error)}", may_recover=False) from error
        except OSError as error:  # a full disk, for instance
            raise _passing(f"It can't be written down: {error.strerror}") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._guarded.aclose()
        await self._plain.aclose()

    async def _follow(self, url: str, into: Path, max_bytes: int) -> Download:
        for _ in range(_MAX_REDIRECTS + 1):
            target = self._check(url)
            pool = self._plain if _origin(target) == self._trusted else self._guarded
            request = httpcore.URL(
                scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
            )
            headers = {"host": target.netloc.decode("ascii"), **_HEADERS}
            limits = dict.fromkeys(("connect", "read", "write", "pool"), self._stall_seconds)
            async with pool.stream("GET", request, headers=_encoded(headers), extensions={"timeout": limits}) as reply:
                if reply.status not in _REDIRECTS:
                    return await _save(reply, into, max_bytes)
                location = _header(reply, b"location")
            if location is None:
                raise DownloadFailed("The server redirects to nowhere.", may_recover=False)
            url = str(target.join(location))
        raise DownloadFailed(f"More than {_MAX_REDIRECTS} redirects.", may_recover=False)

    def _check(self, url: str) -> httpx.URL:
        """Judge an address as far as it shows without asking anybody."""
        if len(url) > _MAX_URL_CHARACTERS:
            raise DownloadFailed("The address is too long.", may_recover=False)
        target = httpx.URL(url)
        if target.scheme not in {"http", "https"}:
            raise DownloadFailed("The address is not http(s).", may_recover=False)
        if target.userinfo:
            raise DownloadFailed("The address has a user name or password in it.", may_recover=False)
        if target.port is not None and not 0 < target.port <= _LAST_PORT:
            raise DownloadFailed("The address has a port that is none.", may_recover=False)
        if _origin(target) == self._trusted:
            return target
        if problem_with(url, self._rules) is not None:
            raise DownloadFailed(_REFUSED, may_recover=False)
        return target


_REFUSED = "The address is not one that may be reached."


async def _save(reply: httpcore.Response, into: Path, max_bytes: int) -> Download:
    if reply.status != HTTPStatus.OK:
        may_recover = reply.status in _PASSING or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        told = _header(reply, b"retry-after")
        pause = read_retry_after(told) if told else None
        seconds = None if pause is None else pause / 1000
        raise DownloadFailed(f"The server answered {reply.status}.", may_recover=may_recover, retry_after=seconds)
    if (_header(reply, b"content-encoding") or "identity").strip().lower() != "identity":
        raise DownloadFailed("The server sends it compressed, which was not asked for.", may_recover=False)
    declared = _header(reply, b"content-length") or ""
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    digest, count = hashlib.sha256(), 0
    with into.open("wb") as file:
        async for block in _blocks(reply, max_bytes):
            await asyncio.to_thread(_write, file, digest, block)
            count += len(block)
    if not count:
        raise _passing("The server sent nothing.")
    is_chunked = "chunked" in (_header(reply, b"transfer-encoding") or "").lower()
    return Download(digest.hexdigest(), count, is_whole=is_chunked or declared.isdigit())


async def _blocks(reply: httpcore.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """Gather a body's pieces into blocks that are worth a trip to the disk."""
    block, count = bytearray(), 0
    async for piece in reply.aiter_stream():
        count += len(piece)
        if count > max_bytes:
            raise _too_large(max_bytes)
        block += piece
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


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def _header(reply: httpcore.Response, name: bytes) -> str | None:
    found = [value for key, value in reply.headers if key.lower() == name]
    return found[0].decode("latin-1") if found else None


def _passing(reason: str) -> DownloadFailed:
    return DownloadFailed(reason, may_recover=True)


def _too_large(max_bytes: int) -> DownloadFailed:
    return DownloadFailed(f"It has more than {max_bytes:,} bytes.", may_recover=False)


def _words(error: Exception) -> str:
    """Say what went wrong: errors may quote what a stranger sent, at any length."""
    return f"{type(error).__name__}: {error}".rstrip(": ")[:200]
