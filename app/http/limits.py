"""What one connection may take, and how many connections there may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may take, and how many there may be.

    Beyond `most` connections requests are answered 503, beyond `spare` more not at all. The head of a request (its
    line and headers) has `head_seconds` to arrive, all of it `body_seconds` and a second for each `body_pace` bytes.
    `unread_bytes` of a body may follow its answer: most clients read no answer before they have sent everything, and
    one that is cut off while it sends loses the answer. The refusal of a request has `farewell_seconds` to be read.
    While more than `waiting` requests wait for the answers before theirs nothing more is read, not even that the client
    has left. A client that takes nothing of what is sent to it for `unread_seconds` is dropped (on Linux, by the system).
    All times are looked at every `look_seconds`.
    """

    most: int = 16_384
    spare: int = 256
    url_bytes: int = 8 * 1024
    head_bytes: int = 32 * 1024
    headers: int = 100
    head_seconds: float = 15.0
    body_seconds: float = 30.0
    body_pace: int = 4 * 1024
    waiting: int = 16
    unread_bytes: int = 64 * 1024 * 1024
    farewell_seconds: float = 2.0
    unread_seconds: float = 60.0
    look_seconds: float = 1.0
