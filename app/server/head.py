"""Request heads: size, target and serialization."""

import httptools

RawHeaders = list[tuple[bytes, bytes]]
"""Header names are lowercase."""


class RequestRefused(Exception):
    """The request exceeds a limit or violates HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def head_bytes(url: bytes, headers: RawHeaders) -> int:
    """Return the approximate size of a request head."""
    return len(url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers)


def write_head(method: bytes, url: bytes, version: str, headers: RawHeaders) -> bytes:
    """Serialize a request head."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), lines)


def host_and_path(url: bytes) -> tuple[bytes, bytes]:
    """Split an absolute request target; raises `RequestRefused`."""
    target = httptools.parse_url(url)
    if target.schema not in {b"http", b"https"} or not target.host or target.userinfo:
        raise RequestRefused(400, "The request target must be a path.")
    host = b"[%b]" % target.host if b":" in target.host else target.host
    port = b":%d" % target.port if target.port else b""
    return host + port, (target.path or b"/") + (b"?" + target.query if target.query else b"")
