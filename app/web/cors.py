"""Cross-origin requests (CORS) of the pages that the operator named."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.callback import CALLBACK_PATH
from app.errors import OriginNotAllowed
from app.web.problems import from_error

# What a page may read of an answer besides its body. `Content-Type` and a few more it may read anyway.
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
    """Lets pages of named origins call and read. There are no cookies, so no credentials are let in.

    A page of another origin gets its answer without the headers by which a browser would let it be read.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            # Those who trace requests add headers of their own, which do nothing here.
            allow_headers=["*"],
            allow_credentials=False,
            # The origins are named by the operator, wherever they and this service are.
            allow_private_network=True,
            expose_headers=_EXPOSED,
            max_age=_PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. No page sends callbacks, nor reads what they are answered, whichever way they take."""
        if scope["type"] == "http" and scope["path"].startswith(CALLBACK_PATH):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks whether a page may send a request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:  # noqa: PLR2004 -- HTTP
            return answer
        refusal = from_error(OriginNotAllowed("CORS_ORIGINS or the method doesn't let this page send this request."))
        refusal.headers.update({k: v for k, v in answer.headers.items() if k == "vary" or k.startswith("access-")})
        return refusal
