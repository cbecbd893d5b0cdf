"""Reading a file out of a request's body, raw or as the one part of a form, without ever holding all of it."""

import asyncio
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BodyTooLarge, InvalidRequest, MalformedRequest, UnsupportedMediaType

_WRITE_BYTES = 1024 * 1024
# What a form has besides its file: boundaries and the part's headers.
_FORM_BYTES = 16 * 1024
_MAX_HEADERS, _MAX_HEADER_BYTES = 16, 2048
_FORM = "multipart/form-data"
_RAW = ("image/", "application/octet-stream")


async def read_file(request: Request, into: Path, max_bytes: int) -> None:
    """Write the file in a body to a path.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `MalformedRequest`, and `InvalidRequest` if there is not just one.
    """
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    kind = media_type.decode("latin-1").lower()
    # A page of another origin can send plain text, or no type at all, without asking; a form is told by its `Origin`.
    if kind != _FORM and not kind.startswith(_RAW):
        raise UnsupportedMediaType(
            "Send the picture itself with its type, such as 'Content-Type: image/png', or a form (multipart/form-data)."
        )
    allowed = max_bytes + (_FORM_BYTES if kind == _FORM else 0)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > allowed:
        raise _too_large(max_bytes)
    with await asyncio.to_thread(into.open, "wb") as file:
        target = _Target(file, max_bytes)
        if kind == _FORM:
            await _read_form(request, options.get(b"boundary", b""), target, allowed)
        else:
            async for chunk in request.stream():
                await target.write(chunk)
        await target.flush()
    if not target.count:
        raise InvalidRequest("There is no picture in the body.", [{"field": "file", "message": "is empty"}])


class _Target:
    """A file that is written in blocks worth a trip to the disk."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self.count = 0
        self._file = file
        self._max_bytes = max_bytes
        self._block = bytearray()

    def add(self, data: bytes, start: int, end: int) -> None:
        """Take a part of some bytes; raises `BodyTooLarge`."""
        self.count += end - start
        if self.count > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._block += memoryview(data)[start:end]

    async def write(self, chunk: bytes) -> None:
        """Take bytes, and write if there are enough."""
        self.add(chunk, 0, len(chunk))
        if len(self._block) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what has gathered."""
        block, self._block = bytes(self._block), bytearray()
        if block:
            await asyncio.to_thread(self._file.write, block)


async def _read_form(request: Request, boundary: bytes, target: _Target, allowed: int) -> None:
    parts = ends = 0
    is_over = False

    def begin() -> None:
        nonlocal parts
        parts += 1
        if parts > 1:
            raise InvalidRequest("The form has more than one part.", [{"field": "file", "message": "must be alone"}])

    def end() -> None:
        nonlocal ends
        ends += 1

    def finish() -> None:
        nonlocal is_over
        is_over = True

    count = 0
    try:
        parser = MultipartParser(
            boundary,
            {"on_part_begin": begin, "on_part_data": target.add, "on_part_end": end, "on_end": finish},
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        async for chunk in request.stream():
            count += len(chunk)
            if count > allowed:
                raise BodyTooLarge(f"The form may have at most {allowed} bytes.")
            parser.write(chunk)
            await target.write(b"")
        parser.finalize()
    except FormParserError:
        raise MalformedRequest("The body is not a form (multipart/form-data) as RFC 7578 has it.") from None
    if not is_over or parts != ends:
        raise MalformedRequest("The form is not complete: its end is missing.")
    if not parts:
        raise InvalidRequest("There is no picture in the form.", [{"field": "file", "message": "is required"}])


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"A picture may have at most {limit} bytes.")
