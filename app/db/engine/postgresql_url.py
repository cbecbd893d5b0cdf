"""Reads PostgreSQL URLs as hosting providers print them.

The driver supports only some of libpq's parameters.
"""

import getpass
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from app.errors import ConfigurationError

_CONNECT_TIMEOUT_SECONDS = 5
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Spellings of other drivers.
_TLS_ALIASES = {"true": "require", "1": "require", "no-verify": "require", "false": "disable", "0": "disable"}
_SERVERS = ("any", "primary", "read-write")
_TLS_FILES = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
# Ignored parameters of libpq and other clients: the driver doesn't support them, or they are set elsewhere.
_WITHOUT_EFFECT = frozenset(
    """
    channel_binding client_encoding fallback_application_name gssdelegation keepalives keepalives_count
    keepalives_idle keepalives_interval load_balance_hosts sslcompression sslsni tcp_user_timeout
    connection_limit pgbouncer pool_timeout pool_timeout_seconds socket_timeout statement_cache_size supa uselibpqcompat
    """.split()
)


def connect_arguments(url: str) -> dict[str, Any]:
    """Return the driver's arguments for a URL.

    Raises `ConfigurationError` for unusable values. Other parameters become session settings; the server rejects
    unknown ones.
    """
    _hide_closed_home()
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    query = {name: value for name, value in given.items() if name not in _WITHOUT_EFFECT}
    if "schema" in query:
        query.setdefault("search_path", query.pop("schema"))
    arguments: dict[str, Any] = {"timeout": _seconds(query.pop("connect_timeout", ""))}
    _one_of("target_session_attrs", query.get("target_session_attrs", "any"), _SERVERS)
    _one_of("gssencmode", query.pop("gssencmode", "prefer"), ("disable", "prefer"))  # the driver has no GSS encryption
    mode = query.pop("ssl", "") or query.get("sslmode", "")
    mode = _TLS_ALIASES.get(mode.lower(), mode)
    if mode:
        query["sslmode"] = _one_of("sslmode", mode, _TLS_MODES)
    _check_files(query)
    authority = query.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if authority == "system" or (mode == "verify-full" and not authority and not _has_authority_of_user()):
        query.pop("sslrootcert", None)
        arguments["ssl"] = ssl.create_default_context()
        arguments["ssl"].set_alpn_protocols(["postgresql"])
        if certificate := query.get("sslcert"):
            arguments["ssl"].load_cert_chain(certificate, query.get("sslkey"), query.get("sslpassword", ""))
    if not (parts.username or query.get("user") or os.environ.get("PGUSER")):
        _check_account()
    # `quote`, because the driver reads a plus sign as a space in some places only.
    arguments["dsn"] = urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))
    return arguments


def _seconds(text: str) -> float:
    """Parse `connect_timeout`; libpq's 0 for no limit counts as unset."""
    if not text.isdigit() and text not in {"", "-1"}:
        raise _refused("has a connect_timeout that is not a number", "allowed: whole seconds")
    return int(text or 0) if text not in {"", "0", "-1"} else _CONNECT_TIMEOUT_SECONDS


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise _refused(f"has an unsuitable {name}", f"allowed: {', '.join(allowed)}")
    return value


def _check_files(query: dict[str, str]) -> None:
    """Load the TLS files once, to report unusable ones.

    While connecting, a missing file looks like an unreachable server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in _TLS_FILES:
        path = query.get(name) or os.environ.get(f"PG{name.upper()}") or ""
        if not path or path == "system":
            continue
        try:
            Path(path).read_bytes()
            if name in {"sslrootcert", "sslcrl"}:
                context.load_verify_locations(path)
            elif name == "sslcert" and "sslkey" in query:
                context.load_cert_chain(path, query["sslkey"], query.get("sslpassword", ""))
        except OSError as error:
            reason = "not a usable PEM file" if isinstance(error, ssl.SSLError) else error.strerror
            raise _refused(f"needs the file of {name}, which can't be used ({reason})", "check its path") from None


def _check_account() -> None:
    """Check that the driver can find the default user name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        raise _refused("has no user, and neither has this process", "write postgresql://USER:PASSWORD@…") from None


def _hide_closed_home() -> None:
    """Point `HOME` elsewhere if this user may not enter it.

    The driver looks for certificates in `~/.postgresql` and would fail, where libpq treats them as missing. Service
    accounts often have inaccessible homes.
    """
    try:
        (_home() / ".postgresql" / "postgresql.key").stat()
    except PermissionError:
        os.environ["HOME"] = os.devnull
    except OSError:
        pass


def _has_authority_of_user() -> bool:
    return (_home() / ".postgresql" / "root.crt").exists()


def _home() -> Path:
    try:
        return Path.home()
    except (RuntimeError, KeyError):  # no `HOME`, and a user id without an account
        return Path(os.devnull)


def _refused(problem: str, allowed: str) -> ConfigurationError:
    return ConfigurationError("DATABASE_URL", problem, allowed)
