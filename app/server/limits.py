"""Limits on connections and on the requests they carry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits on connections and on the requests they carry; times are checked every `tick_seconds`."""

    connections: int = 16_384
    """Connections beyond this are answered 503."""
    spare_connections: int = 256
    """How many of those are answered; the rest are dropped."""
    url_bytes: int = 8 * 1024
    headers: int = 100
    head_bytes: int = 32 * 1024
    head_seconds: float = 15.0
    """Time for the request line and headers."""
    body_seconds: float = 30.0
    """Time for the body, plus one second for each `body_bytes_per_second` received."""
    body_bytes_per_second: int = 4 * 1024
    discarded_bytes: int = 64 * 1024 * 1024
    """How much is read and thrown away after an answer or a refusal. A client cut off while sending loses the answer."""
    linger_seconds: float = 2.0
    """Time a client has to read a refusal before the connection is dropped."""
    unread_seconds: float = 60.0
    """Time after which a client that reads nothing is dropped (Linux only)."""
    tick_seconds: float = 1.0
