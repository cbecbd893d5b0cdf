"""Checks of the `AWS_…` variables.

The storage client reads them itself, and some values make it panic at its first request.
"""

import os
import re
from urllib.parse import urlsplit

from app.errors import ConfigurationError

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_MAX_PORT = 65_535


def endpoint() -> str:
    """Return the object store's URL; "" for AWS itself.

    Raises `ConfigurationError` for values that the storage client can't use.
    """
    for name, value in os.environ.items():
        if name.startswith("AWS_") and not re.fullmatch(r"[\x20-\x7e]*", value):
            raise ConfigurationError(
                name, "contains control or non-ASCII characters", "allowed: visible ASCII characters"
            )
    for name in _REGIONS:
        if not re.fullmatch(r"[A-Za-z0-9._-]*", os.environ.get(name, "")):
            raise ConfigurationError(name, "is not a region name", "allowed: a name such as eu-central-1")
    for name in _ENDPOINTS:
        if (address := os.environ.get(name)) and not _is_http_url(address):
            raise ConfigurationError(
                name,
                "is not an http(s) URL",
                "allowed: http://HOST:PORT or https://HOST:PORT, without a bucket or query",
            )
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")


def _is_http_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    is_plain = re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", parts.netloc) is not None and not re.search(r"[\s?#\\]", value)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and is_plain and (port or 0) <= _MAX_PORT
