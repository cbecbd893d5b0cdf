"""Request and response headers shared by all routes."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

from app.server.head import RawHeaders

NO_SNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")
_FOR_BROWSERS = (
    NO_SNIFF,
    NO_STORE,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")

Networks = list[IPv4Network | IPv6Network]


class ResponseHeaders:
    """Restrictive headers for browsers: no sniffing, caching, framing or loading.

    Responses that need to allow more, like pages and images, set their own values.
    """

    def __init__(self, *, is_https: bool) -> None:
        self._defaults = [*_FOR_BROWSERS, _HTTPS_ONLY] if is_https else [*_FOR_BROWSERS]

    def complete(self, headers: RawHeaders) -> RawHeaders:
        """Add the missing headers; names must be lowercase."""
        given = {name for name, _ in headers}
        return [*headers, *(pair for pair in self._defaults if pair[0] not in given)]


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header with this lowercase name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def client_address(scope: Scope, trusted: Networks) -> str | None:
    """Return the client's address, as reported by trusted proxies.

    Each proxy appends to `X-Forwarded-For`, so it is read from the end until an untrusted address appears.
    """
    if not scope.get("client"):
        return None
    address = str(scope["client"][0])
    chain = ",".join(bytes(value).decode("latin-1") for key, value in scope["headers"] if key == b"x-forwarded-for")
    for hop in reversed(chain.split(",")):
        proxy = _parse(address)
        if proxy is None or not any(proxy in network for network in trusted) or _parse(hop.strip()) is None:
            break
        address = hop.strip()
    return address


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
