"""The chunks of a PNG file (W3C PNG, third edition)."""

import zlib
from collections.abc import Iterator

from app.imaging.layout import BadImage, Budget, Data, Layout, Piece, append, orientation_exif, read_orientation, take

MAGIC = b"\x89PNG\r\n\x1a\n"
# Chunks needed to decode and display the image. All others are metadata.
_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
)
# Of all others only the first is kept: a decoder would unpack each of thousands of color profiles.
_REPEATED = frozenset((b"IDAT", b"fcTL", b"fdAT", b"sPLT"))
_LARGEST_CHUNK = 2**31 - 1


def read(data: Data) -> Layout:
    """Read a file up to `IEND`; raises `BadImage`."""
    size: tuple[int, int] | None = None
    orientation = 1
    head: list[Piece] = [MAGIC]
    pieces: list[Piece] = []
    seen: set[bytes] = set()
    for kind, start, end in _chunks(data):
        is_first = kind not in seen
        seen.add(kind)
        if size is None:
            size = _read_size(kind, data[start + 8 : end - 4])
            head.append(slice(start, end))
        elif kind == b"IHDR":
            raise BadImage("declares more than one size")
        elif kind == b"eXIf" and is_first:
            orientation = read_orientation(data[start + 8 : end - 4])
        elif kind in _KEPT and (is_first or kind in _REPEATED):
            append(pieces, slice(start, end))
    if size is None or b"IDAT" not in seen:
        raise BadImage("contains no image")
    if orientation > 1:
        # Right after the header, as some viewers only read it before the pixels.
        head.append(_chunk(b"eXIf", orientation_exif(orientation)))
    return Layout(*size, orientation, [*head, *pieces, _chunk(b"IEND", b"")])


def _chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk before `IEND`."""
    budget = Budget(data, bytes_per_part=512)
    start = len(MAGIC)
    while True:
        budget.spend()
        head = take(data, start, start + 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if length > _LARGEST_CHUNK or not kind.isalpha():
            raise BadImage("has an invalid chunk")
        end = start + 12 + length
        checksum = take(data, end - 4, end)
        if zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big") != checksum:
            raise BadImage("is damaged: a checksum is wrong")
        if kind == b"IEND":
            return
        yield kind, start, end
        start = end


def _read_size(kind: bytes, content: bytes) -> tuple[int, int]:
    if kind != b"IHDR":
        raise BadImage("does not begin with its size")
    width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    if not width or not height:
        raise BadImage("has a width or height of 0")
    return width, height


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
