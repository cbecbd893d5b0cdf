"""The answer to what no application gets to see, as it goes over the wire."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.errors import GatewayError
from app.shapes.base import encode
from app.shapes.problem import PROBLEM_MEDIA_TYPE, problem_shape


def refusal(error: GatewayError, request_id: str) -> bytes:
    """Write a problem as the last answer on a connection."""
    problem = problem_shape(error)
    problem.request_id = request_id
    content = encode(problem)
    headers = {
        "content-type": PROBLEM_MEDIA_TYPE,
        "content-length": len(content),
        "x-request-id": request_id,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[error.status] + lines.encode() + b"\r\n" + content
