"""ASGI extensions that the server offers to the application."""

from collections.abc import Callable

from starlette.types import Scope

ABORT = "nanobanana.abort"


def abort_of(scope: Scope) -> Callable[[], None]:
    """Return the function that drops the connection with its unsent data.

    ASGI can only close a connection, which waits until the client has read everything. Other servers lack this
    extension; with them the function does nothing.
    """
    extension: dict[str, Callable[[], None]] = scope.get("extensions", {}).get(ABORT, {"abort": lambda: None})
    return extension["abort"]
