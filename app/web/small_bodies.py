"""A limit to the bodies of all routes that read none."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BodyTooLarge
from app.web.body import SMALL_BODY_BYTES, check_declared_length
from app.web.headers import header
from app.web.problems import from_error

# The routes under these read their bodies themselves, each with its own limit.
READ_BY_ROUTES = ("/v1/tasks", "/v1/uploads", "/v1/tokens", "/callbacks/", "/api/v1/")


class SmallBodies:
    """Refuses a large body where none is read.

    One that is not announced is not read either: the server takes some 64 KiB of it, and no more until the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] == "http" and not self.is_read(scope):
            try:
                check_declared_length(header(scope, b"content-length"), SMALL_BODY_BYTES)
            except BodyTooLarge as error:
                await from_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    @staticmethod
    def is_read(scope: Scope) -> bool:
        """Whether the route of a request reads its body itself."""
        path = scope["path"]
        if scope["method"] != "POST":
            return False
        return path in READ_BY_ROUTES or path.startswith(tuple(p for p in READ_BY_ROUTES if p.endswith("/")))
