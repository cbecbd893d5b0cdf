"""Vendor responses, and broken ones such as proxy error pages."""

import json
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.sandbox.plans import OK

_ERRORS = {
    400: "The request parameters are invalid.",
    401: "You do not have access permissions.",
    402: "The current credits are insufficient. Please top up.",
    404: "The task does not exist.",
    429: "The call frequency is too high. Please try again later.",
    500: "Server exception. Please try again later or contact customer service.",
    503: "The service is under maintenance. Please try again later.",
}
"""The vendor's messages by code."""

_PROXY_TITLES = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}


class AsciiJson(JSONResponse):
    """ASCII JSON, as prompts may contain lone surrogates."""

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return json.dumps(content).encode()


class Envelope(AsciiJson):
    """The vendor's JSON; only successes have `data`."""

    def __init__(
        self,
        code: int,
        message: str | None = None,
        data: Any = None,
        *,
        key: str = "msg",
        in_http_200: bool = False,
    ) -> None:
        """Build the response; `in_http_200` sends an error with status 200."""
        fields = {"code": code, key: message or _ERRORS[code]} | ({"data": data} if code == OK else {})
        super().__init__(fields, OK if in_http_200 else code)
        self.code = code


class HangUp(Response):
    """Cuts the TCP connection instead of responding."""

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        """Cut the connection."""
        # If we returned before the server notices, it would respond 500.
        scope["state"]["hang_up"]()
        while (await receive())["type"] != "http.disconnect":
            pass


def proxy_page(status: int) -> HTMLResponse:
    """Return a proxy's error page."""
    title = _PROXY_TITLES[status]
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr>"
    return HTMLResponse(f"{page}<center>nginx</center>\r\n</body>\r\n</html>\r\n", status_code=status)


def torn(reply: Envelope) -> Response:
    """Return a reply cut in half."""
    body = bytes(reply.body)
    return Response(body[: len(body) // 2], status_code=reply.status_code, media_type="application/json")
