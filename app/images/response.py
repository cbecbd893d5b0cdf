"""Image responses with ETags and ranges (RFC 9110)."""

import re
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import RangeNotSatisfiable
from app.images.files import ImageFiles, ServedFile
from app.web.chunk_sender import ChunkSender
from app.web.parameters import Parameter
from app.web.waiting import watch_disconnect

_RANGE = re.compile(r"bytes=\s*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))\s*", re.IGNORECASE)
_RANGE_HEADER: Parameter[str] = Parameter(
    "Range",
    "header",
    str,
    "Return one range of bytes. Multiple ranges return the whole image.",
    example="bytes=0-99",
)
_IF_RANGE: Parameter[str] = Parameter("If-Range", "header", str, "Ignore `Range` unless this is the current `ETag`.")
_IF_NONE_MATCH: Parameter[str] = Parameter(
    "If-None-Match", "header", str, "Return 304 if one of these is the current `ETag`."
)
BYTES_PARAMETERS = (_RANGE_HEADER, _IF_RANGE, _IF_NONE_MATCH)
_SAFETY_HEADERS = {
    # The content is untrusted: only the detected type, no scripts, no access to our origin.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    # Pages of any origin may show the image; its URL is the secret.
    "Cross-Origin-Resource-Policy": "cross-origin",
}


async def image_response(
    request: Request, files: ImageFiles, file: ServedFile, *, width: int | None = None, cache_control: str
) -> Response:
    """Respond to GET or HEAD of an image or thumbnail.

    Raises `RangeNotSatisfiable`, `StorageUnavailable`, and `ImageUnavailable` if the file is missing.
    """
    suffix = "" if width is None else f"-w{width}"
    tag = f'"{file.sha256}{suffix}"'
    headers = {"ETag": tag, "Cache-Control": cache_control, **_SAFETY_HEADERS}
    if _is_known(request.headers.getlist(_IF_NONE_MATCH.name), tag):
        return Response(status_code=304, headers=headers)
    small = await files.thumbnail(file, width) if width is not None else None
    size = file.bytes if small is None else len(small)
    part = _requested_part(request, size, tag)
    start, end = part or (0, size)
    name = file.name if width is None else f"{file.name.rpartition('.')[0]}-{width}.webp"
    headers |= {
        "Content-Type": file.content_type if small is None else "image/webp",
        "Content-Length": str(end - start),
        "Content-Disposition": f'inline; filename="{name}"',
        "Accept-Ranges": "bytes",
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        if small is None:
            await files.check(file)
        return Response(status_code=status, headers=headers)
    if small is not None:
        return Response(small[start:end], status_code=status, headers=headers)
    return _Streamed(await files.open(file, start, end), status=status, headers=headers)


class _Streamed(Response):
    """Streams chunks as fast as the client reads them."""

    def __init__(self, chunks: AsyncIterator[bytes], *, status: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the image."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sender = ChunkSender(scope, send)
        async with watch_disconnect(receive) as disconnected:
            async for chunk in self._chunks:
                if disconnected.done():
                    return
                await sender.send(chunk)
        await send({"type": "http.response.body", "body": b""})


def _is_known(given: list[str], tag: str) -> bool:
    """Whether `If-None-Match` has the tag (weak comparison)."""
    known = [part.strip().removeprefix("W/") for part in ",".join(given).split(",")]
    return tag in known or "*" in known


def _requested_part(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """Return the requested range; None for the whole file."""
    range_, condition = _RANGE_HEADER.text(request), _IF_RANGE.text(request)
    if range_ is None or request.method != "GET" or (condition is not None and condition != tag):
        return None
    match = _RANGE.fullmatch(range_)
    if match is None:
        return None
    first, last, final = match.groups()
    if final is not None:
        start, end = max(size - int(final), 0), size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < start:
            return None  # an invalid range is ignored
    if start >= min(end, size):
        raise RangeNotSatisfiable(f"The image has {size} bytes.", size=size)
    return start, end
