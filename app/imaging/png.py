"""The chunks of a PNG file (W3C PNG, third edition)."""

import zlib

from app.imaging.layout import BadImage, Budget, Data, Layout, Piece, orientation_exif, read_orientation, take

MAGIC = b"\x89PNG\r\n\x1a\n"
# Chunks needed to decode and display the image. All others are metadata.
_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
)
_LARGEST_CHUNK = 2**31 - 1


def read(data: Data) -> Layout:
    """Read a file up to `IEND`; raises `BadImage`."""
    budget = Budget(data, bytes_per_part=512)
    size: tuple[int, int] | None = None
    orientation = 1
    pieces: list[Piece] = [MAGIC]
    has_pixels = False
    at = len(MAGIC)
    while True:
        budget.spend()
        head = take(data, at, at + 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if length > _LARGEST_CHUNK or not kind.isalpha():
            raise BadImage("has an invalid chunk")
        end = at + 12 + length
        checksum = take(data, end - 4, end)
        if zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big") != checksum:
            raise BadImage("is damaged: a checksum is wrong")
        if size is None:
            size = _read_size(kind, data[at + 8 : end - 4])
        if kind == b"eXIf":
            orientation = read_orientation(data[at + 8 : end - 4])
        has_pixels |= kind == b"IDAT"
        if kind == b"IEND":
            break
        if kind in _KEPT:
            pieces.append(slice(at, end))
        at = end
    if not has_pixels:
        raise BadImage("contains no image")
    if orientation > 1:
        # Right after the header, as some viewers only read it before the pixels.
        pieces.insert(2, _chunk(b"eXIf", orientation_exif(orientation)))
    return Layout(*size, orientation, [*pieces, _chunk(b"IEND", b"")])


def _read_size(kind: bytes, content: bytes) -> tuple[int, int]:
    if kind != b"IHDR":
        raise BadImage("does not begin with its size")
    width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    if not width or not height:
        raise BadImage("does not declare its size")
    return width, height


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
