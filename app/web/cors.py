"""Cross-origin requests (CORS) from the origins in `CORS_ORIGINS`."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.callback import CALLBACK_PATH
from app.errors import OriginNotAllowed
from app.web.problems import from_error

# Response headers that pages can read in addition to those that are always readable, such as `Content-Type`.
_EXPOSED = [
    "Accept-Ranges",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
]
_METHODS = ["GET", "HEAD", "POST", "DELETE"]
_PREFLIGHT_SECONDS = 600


class Cors(CORSMiddleware):
    """Lets pages of allowed origins use the API.

    Responses to other origins lack CORS headers, so browsers block pages from reading them. The service uses no
    cookies, so credentials are not allowed.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            # Tracing libraries add their own headers.
            allow_headers=["*"],
            allow_credentials=False,
            # The operator trusts these origins even if this service runs in a private network.
            allow_private_network=True,
            expose_headers=_EXPOSED,
            max_age=_PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Callbacks get no CORS headers."""
        if scope["type"] == "http" and scope["path"].startswith(CALLBACK_PATH):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Respond to a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        refusal = from_error(OriginNotAllowed("This origin or method is not allowed. Add the origin to CORS_ORIGINS."))
        refusal.headers.update({k: v for k, v in response.headers.items() if k == "vary" or k.startswith("access-")})
        return refusal
