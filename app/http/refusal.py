"""The answer to what no application gets to see, as it goes over the wire."""

import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.problems import MEDIA_TYPE, problem_body
from app.errors import GatewayError


def refusal(error: GatewayError, request_id: str) -> bytes:
    """Write a problem as the last answer on a connection."""
    body = problem_body(error.status, error.code, error.title, error.detail) | {"request_id": request_id}
    content = json.dumps(body, separators=(",", ":")).encode()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": len(content),
        "x-request-id": request_id,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[error.status] + lines.encode() + b"\r\n" + content
