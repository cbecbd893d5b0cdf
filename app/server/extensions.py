"""ASGI extensions that the server offers."""

from collections.abc import Callable

from starlette.types import Scope

ABORT = "nanobanana.abort"


def abort_of(scope: Scope) -> Callable[[], None]:
    """Return a function that drops the connection and unsent data.

    ASGI itself can only close a connection after the client has read everything. On servers without this extension,
    the function does nothing.
    """
    extension: dict[str, Callable[[], None]] = scope.get("extensions", {}).get(ABORT, {"abort": lambda: None})
    return extension["abort"]
