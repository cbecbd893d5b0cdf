"""Headers of requests and answers that are not about any one route."""

from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import Scope

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

Headers = list[tuple[bytes, bytes]]
Networks = list[IPv4Network | IPv6Network]


class ResponseHeaders:
    """Adds to an answer what it does not say itself: not to be sniffed, stored, framed, or to load anything.

    Pages and pictures, which may do more, state so in their own headers.
    """

    def __init__(self, *, is_https: bool) -> None:
        self._defaults = [*_FOR_BROWSERS, _HTTPS_ONLY] if is_https else [*_FOR_BROWSERS]
        self._names = frozenset(name for name, _ in self._defaults)

    def complete(self, headers: Headers) -> Headers:
        """Return the headers (names in lower case) with what was missing."""
        for name, _ in headers:
            if name in self._names:
                stated = {name for name, _ in headers}
                return [*headers, *(pair for pair in self._defaults if pair[0] not in stated)]
        return [*headers, *self._defaults]


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header's value, the first if it comes more than once; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def client_address(scope: Scope, trusted: Networks) -> str | None:
    """Tell who sent a request: whoever connected, or, if that is a trusted proxy, for whom it says that it did.

    Each proxy appends to `X-Forwarded-For`, so it is read from its end, as far as trusted proxies wrote it.
    """
    if not scope.get("client"):
        return None
    address = str(scope["client"][0])
    if not trusted or not _is_in(address, trusted):
        return address
    chain = ",".join(bytes(value).decode("latin-1") for key, value in scope["headers"] if key == b"x-forwarded-for")
    for hop in reversed(chain.split(",")):
        if not _is_address(hop.strip()):
            return address
        address = hop.strip()
        if not _is_in(address, trusted):
            return address
    return address


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(address: str, networks: Networks) -> bool:
    if not _is_address(address):
        return False
    ip = ip_address(address)
    return any(ip in network for network in networks)
