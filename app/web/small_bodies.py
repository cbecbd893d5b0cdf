"""A limit on bodies for routes that read none."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BodyTooLarge
from app.web.body import SMALL_BODY_BYTES, check_declared_length
from app.web.headers import header
from app.web.problems import from_error

# These routes read bodies, each with its own limit.
_READ_AT = ("/v1/tasks", "/v1/uploads", "/v1/tokens")
_READ_BELOW = ("/callbacks/", "/api/v1/")


class SmallBodies:
    """Rejects requests that declare a large body where none is read.

    Of an undeclared one, the server buffers about 64 KiB before the response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or reject one request."""
        if scope["type"] == "http" and not self.is_read(scope):
            try:
                check_declared_length(header(scope, b"content-length"), SMALL_BODY_BYTES)
            except BodyTooLarge as error:
                await from_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    @staticmethod
    def is_read(scope: Scope) -> bool:
        """Whether the route of a request reads its body."""
        path = scope["path"]
        return scope["method"] == "POST" and (path in _READ_AT or path.startswith(_READ_BELOW))
