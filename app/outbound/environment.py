"""Proxies and trusted authorities from the environment."""

import ipaddress
import os
import re
import ssl
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import httpx

from app.errors import ConfigurationError
from app.settings import is_loopback

_PORTS = {"http": 80, "https": 443}
_PROXY_ALLOWED = (
    "allowed: http://HOST:PORT or https://HOST:PORT, optionally with USER:PASSWORD@; list exceptions in NO_PROXY"
)


def trust_store() -> ssl.SSLContext:
    """Load the trusted authorities; raises `ConfigurationError`.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the default ones.
    """
    name = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
    path = os.environ.get(name) or "."
    try:
        if name == "SSL_CERT_DIR":
            _check_directories(path)
        return httpx.create_ssl_context()
    except OSError as error:
        reason = "no certificates in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            name, f"can't be used ({reason}): {path}", "allowed: a readable PEM file, or a directory of PEM files"
        ) from None


def _check_directories(paths: str) -> None:
    """Raise `OSError` unless one of the directories is readable."""
    # OpenSSL reads a list, and takes a missing directory for an empty one.
    *others, last = paths.split(os.pathsep)
    for path in others:
        with suppress(OSError):
            os.scandir(path).close()
            return
    os.scandir(last).close()


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL; None for this machine.

    Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, as the HTTP client fails on networks in `NO_PROXY`.
    Raises `ConfigurationError` for an unusable proxy.
    """
    target, proxies = urlsplit(url), getproxies_environment()
    host, port = target.hostname or "", target.port or _PORTS[target.scheme]
    if is_loopback(host) or any(_is_named(host, port, entry) for entry in re.split(r"[,\s]+", proxies.get("no", ""))):
        return None
    for kind in (target.scheme, "all"):
        if proxy := proxies.get(kind):
            return _checked(f"{kind.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}")
    return None


def _checked(name: str, proxy: str) -> str:
    try:
        parsed = httpx.URL(proxy)
    except httpx.InvalidURL:
        problem = "is not a URL"
    else:
        if parsed.scheme in _PORTS and parsed.host:
            return proxy
        problem = "names a SOCKS proxy" if parsed.scheme.startswith("socks") else "is not an http(s) URL"
    raise ConfigurationError(name, problem, _PROXY_ALLOWED)


def _is_named(host: str, port: int, entry: str) -> bool:
    """Whether an entry of `NO_PROXY` matches a host.

    It may be a name, which includes subdomains, an address or a network.
    """
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, colon, only_port = entry.lower().rpartition(":")
        if colon and only_port.isdigit():
            return int(only_port) == port and _is_named(host, port, name)
        name = entry.lower().removeprefix("*").removeprefix(".").rstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
