"""ASGI extensions that the server offers to the application."""

from collections.abc import Callable

from starlette.types import Scope

ABORT = "nanobanana.abort"


def abort_of(scope: Scope) -> Callable[[], None] | None:
    """Return what drops a connection together with its unsent data.

    ASGI can only close a connection, which waits until the client has read everything. None with other servers.
    """
    abort: Callable[[], None] | None = scope.get("extensions", {}).get(ABORT, {}).get("abort")
    return abort
