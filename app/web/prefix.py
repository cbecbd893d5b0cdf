"""Serving below a path, such as `https://example.com/images`."""

from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from app.shapes.problem import bind_path_prefix


class WithoutPrefix:
    """Removes the path of `PUBLIC_BASE_URL` from requests.

    Most proxies do that themselves; it makes no difference to what they send.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._given = prefix
        self._raw = prefix.encode()
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        bind_path_prefix(self._given)
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self._prefix}/"):
            path = scope["path"].removeprefix(self._prefix) or "/"
            scope = {**scope, "path": path, "raw_path": scope["raw_path"].removeprefix(self._raw) or b"/"}
        await self._app(scope, receive, send)
