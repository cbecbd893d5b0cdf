"""Reads an uploaded file without buffering it in memory."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BodyTooLarge, InvalidRequest, MalformedRequest, UnsupportedMediaType

_WRITE_BYTES = 1024 * 1024
# Boundaries and the part's headers.
_FORM_OVERHEAD_BYTES = 16 * 1024
_MAX_HEADERS, _MAX_HEADER_BYTES = 16, 2048
# At the beginning and at the end.
_MAX_DELIMITERS = 2
_FORM = "multipart/form-data"
_RAW = ("image/", "application/octet-stream")


async def read_file(request: Request, into: Path, max_bytes: int) -> None:
    """Write the file in a request's body to a path.

    The body is raw or a multipart form. Raises `UnsupportedMediaType`, `BodyTooLarge`, `MalformedRequest`, and
    `InvalidRequest` unless there is one file.
    """
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    kind = media_type.decode("latin-1").lower()
    # Other origins can send plain text, or no type, without a preflight. `OriginGuard` checks forms.
    if kind != _FORM and not kind.startswith(_RAW):
        raise UnsupportedMediaType(
            "Send the image as a raw body with its type, such as 'Content-Type: image/png', or as multipart/form-data."
        )
    max_body_bytes = max_bytes + (_FORM_OVERHEAD_BYTES if kind == _FORM else 0)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_body_bytes:
        raise _too_large(max_bytes)
    with await asyncio.to_thread(into.open, "wb") as file:
        target = _Target(file, max_bytes)
        if kind == _FORM:
            if not options.get(b"boundary"):
                raise MalformedRequest("The Content-Type has no boundary.")
            await _read_form(request, options[b"boundary"], target, max_body_bytes)
        else:
            async for chunk in request.stream():
                target.add(chunk, 0, len(chunk))
                await target.flush(_WRITE_BYTES)
        await target.flush()
    if not target.count:
        raise InvalidRequest.field("file", "is empty")


class _Target:
    """A file that is written in large blocks."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self.count = 0
        self._file = file
        self._max_bytes = max_bytes
        self._block = bytearray()

    def add(self, data: bytes, start: int, end: int) -> None:
        """Add a slice of `data`; raises `BodyTooLarge`."""
        self.count += end - start
        if self.count > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._block += memoryview(data)[start:end]

    async def flush(self, min_bytes: int = 1) -> None:
        """Write the block if it has at least this size."""
        if len(self._block) >= min_bytes:
            block, self._block = self._block, bytearray()
            await asyncio.to_thread(self._file.write, block)


async def _read_form(request: Request, boundary: bytes, target: _Target, max_body_bytes: int) -> None:
    delimiter = b"\r\n--" + boundary
    seen: Counter[str] = Counter()

    def begin_part() -> None:
        seen["begin"] += 1
        if seen["begin"] > 1:
            raise InvalidRequest.field("file", "must be the only part")

    count = 0
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin_part,
                "on_part_data": target.add,
                "on_part_end": lambda: seen.update(["end"]),
                "on_end": lambda: seen.update(["form"]),
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        async for chunk in request.stream():
            count += len(chunk)
            if count > max_body_bytes:
                raise BodyTooLarge(f"The form exceeds the limit of {max_body_bytes} bytes.")
            # The parser examines bytes one by one after each delimiter, even if more text follows on its line.
            seen["delimiter"] += chunk.count(delimiter)
            if seen["delimiter"] > _MAX_DELIMITERS:
                raise InvalidRequest.field("file", "must be the only part")
            parser.write(chunk)
            await target.flush(_WRITE_BYTES)
            if count - target.count > _FORM_OVERHEAD_BYTES:
                raise BodyTooLarge(f"Apart from its file, the form is limited to {_FORM_OVERHEAD_BYTES} bytes.")
        parser.finalize()
    except FormParserError:
        raise MalformedRequest("The body is not a valid multipart form (RFC 7578).") from None
    if not seen["form"] or seen["begin"] != seen["end"]:
        raise MalformedRequest("The form is incomplete: its end is missing.")
    if not seen["begin"]:
        raise InvalidRequest.field("file", "is required")


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The image exceeds the limit of {max_bytes} bytes.")
