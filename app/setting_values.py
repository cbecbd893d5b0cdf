"""Parsers of setting values; they raise `ValueError` with the reason."""

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr
from pydantic_settings import NoDecode

MAX_RATE = 10_000
MAX_WINDOW_SECONDS = 86_400
MAX_PAUSES = 20
MAX_PAUSE_SECONDS = 7 * 86_400
_MAX_PORT = 65_535
_QUOTES = "\"'`"
_TOKEN_PREFIX = "nbt_"  # noqa: S105 -- distinguishes browser tokens from keys


def plain(value: object) -> object:
    """Reject quotes around a value."""
    # Docker's `--env-file`, for example, keeps them.
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
        raise ValueError("enclosed in quotes; remove them")
    return value


def one_line(value: object) -> object:
    """Reject line breaks and other control characters."""
    if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", value):
        raise ValueError("contains a line break or another control character")
    return value


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _rate(value: object) -> object:
    """Parse `N/S`; `0` means no limit."""
    if not isinstance(value, str):
        return value
    if value.strip() == "0":
        return None
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*", value)
    if not match or not 1 <= int(match[1]) <= MAX_RATE or not 0 < float(match[2]) <= MAX_WINDOW_SECONDS:
        raise ValueError("invalid rate")
    return int(match[1]), float(match[2])


def _host(text: str) -> str:
    """Parse a host name, `*.` pattern or address, without port."""
    name = text.lower().removesuffix(".")
    if re.fullmatch(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        return name
    try:
        ipaddress.IPv6Address(name.strip("[]"))
    except ValueError:
        raise ValueError("not a host name or address") from None
    return name.strip("[]")


def _origin(text: str) -> str:
    """Parse an origin; returns it as browsers send it."""
    match = re.fullmatch(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?/?", text.lower())
    if match is None:
        raise ValueError("would allow every page on the web" if text == "*" else "not an origin")
    scheme, host, port = match.groups()
    is_default = port is None or int(port) == {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{int(port)}"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def http_url(value: str) -> str:
    """Parse a base URL; returns it without a trailing slash."""
    if not re.fullmatch(r"[\x21-\x7e]+", value) or "\\" in value:
        raise ValueError("contains spaces, backslashes or non-ASCII characters")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http(s) URL")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or fragment")
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains a user name or password")
    _ = parts.port  # raises ValueError if it is invalid
    return value.rstrip("/")


def database_url(value: str) -> str:
    """Parse a database URL; returns it as `sqlite://…` or `postgresql://…`.

    The driver in an SQLAlchemy URL is ignored: we choose it.
    """
    match = re.fullmatch(r"(sqlite|postgres(?:ql)?)(?:\+\w+)?://(.+)", value, re.IGNORECASE)
    if match is None or (match[1].lower() == "sqlite" and not re.fullmatch(r"/.+", match[2])):
        raise ValueError("not the URL of a supported database")
    if match[1].lower() == "sqlite":
        if ":memory:" in value:
            raise ValueError("an in-memory database, which connections can't share")
        if "?" in value:
            raise ValueError("has parameters, which are not supported for SQLite")
        return f"sqlite://{match[2]}"
    user, _, hosts = re.split(r"[/?]", match[2], maxsplit=1)[0].rpartition("@")
    if "@" in user or "#" in value:
        raise ValueError(
            "contains an unescaped #, or an unescaped @ in the user name or password; write # as %23 and @ as %40"
        )
    if not all(_is_database_host(host) for host in hosts.split(",")):
        raise ValueError("the host or port is invalid; in the password, write / ? : as %2F %3F %3A")
    try:
        urlsplit(value)
    except ValueError:  # its message quotes the password
        raise ValueError("contains characters in the user name or password that must be percent-encoded") from None
    return f"postgresql://{match[2]}"


def _is_database_host(text: str) -> bool:
    """Whether a text is a valid host, optionally with port.

    It may also be empty or the percent-encoded path of a socket.
    """
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]*)(?::(\d{1,5}))?", text)
    return match is not None and int(match[1] or 0) <= _MAX_PORT


def storage_url(value: str) -> str:
    """Parse the image storage location: a directory or a bucket."""
    scheme, colon, rest = value.partition(":")
    is_bucket = scheme.lower() == "s3" and colon
    if "://" not in value and not is_bucket:
        return value
    if not is_bucket or not re.fullmatch(r"//[A-Za-z0-9._-]+(/[^?#\s]*)?", rest):
        raise ValueError("neither a directory nor s3:// with a bucket")
    return f"s3:{rest}"


def upstream_key(value: SecretStr) -> SecretStr:
    """Parse the upstream account's key."""
    # A space in the header would break every call, and redaction would miss its escaped form in the error message.
    if not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
        raise ValueError("contains spaces or non-ASCII characters")
    return value


def api_key(value: SecretStr) -> SecretStr:
    """Parse an API key of this service."""
    if not re.fullmatch(r"[\x21-\x7e]{8,200}", value.get_secret_value()):
        raise ValueError("not 8 to 200 visible ASCII characters")
    if value.get_secret_value().startswith(_TOKEN_PREFIX):
        raise ValueError(f"begins with {_TOKEN_PREFIX}, like browser tokens")
    return value


Lower = BeforeValidator(_lower)
HttpUrl = Annotated[str, AfterValidator(http_url)]
DatabaseUrl = Annotated[str, AfterValidator(database_url)]
StorageUrl = Annotated[str, AfterValidator(storage_url)]
UpstreamKey = Annotated[SecretStr, AfterValidator(upstream_key)]
ApiKey = Annotated[SecretStr, AfterValidator(api_key)]
Hosts = Annotated[list[Annotated[str, AfterValidator(_host)]], NoDecode, BeforeValidator(_split)]
Origins = Annotated[list[Annotated[str, AfterValidator(_origin)]], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[list[SecretStr], NoDecode, BeforeValidator(_split)]
Networks = Annotated[list[IPvAnyNetwork], NoDecode, BeforeValidator(_split)]
Rate = Annotated[tuple[int, float] | None, NoDecode, BeforeValidator(_rate)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400, allow_inf_nan=False)]
Schedule = Annotated[
    list[Annotated[float, Field(gt=0, le=MAX_PAUSE_SECONDS, allow_inf_nan=False)]],
    Field(min_length=1, max_length=MAX_PAUSES),
    NoDecode,
    BeforeValidator(_split),
]
