"""The head of a request: its size, its target, and how it is written."""

import httptools

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


class RequestRefused(Exception):
    """A request breaks a limit or a rule of HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def head_bytes(url: bytes, headers: Headers) -> int:
    """Return about how many bytes a head had."""
    return len(url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers)


def write_head(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Write a head as it goes over the wire."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), lines)


def host_and_path(url: bytes) -> tuple[bytes, bytes]:
    """Split a target that was written for a proxy, such as `http://example.com/path`; raises `RequestRefused`."""
    target = httptools.parse_url(url)
    if target.schema not in {b"http", b"https"} or not target.host or target.userinfo:
        raise RequestRefused(400, "The target of a request is a path.")
    host = b"[%b]" % target.host if b":" in target.host else target.host
    port = b":%d" % target.port if target.port else b""
    return host + port, (target.path or b"/") + (b"?" + target.query if target.query else b"")
