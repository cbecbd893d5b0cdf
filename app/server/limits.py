"""Limits on connections and requests."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits on connections and requests; times are checked every `tick_seconds`."""

    connections: int = 16_384
    """Further connections are spare."""
    spare_connections: int = 256
    """Connections served by another application; further ones are dropped."""
    url_bytes: int = 8 * 1024
    headers: int = 100
    head_bytes: int = 32 * 1024
    head_seconds: float = 15.0
    """Time for the request line and headers."""
    body_seconds: float = 30.0
    """Time for the body, plus one second for each `body_bytes_per_second` received."""
    body_bytes_per_second: int = 4 * 1024
    discarded_bytes: int = 64 * 1024 * 1024
    """Bytes read and discarded after a response. Dropping a client that is still sending would lose the response."""
    linger_seconds: float = 2.0
    """Time to read an error response before the connection is dropped."""
    unread_seconds: float = 60.0
    """Time until a client that reads nothing is dropped (Linux only)."""
    tick_seconds: float = 1.0
