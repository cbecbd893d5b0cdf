"""The chunks of a WebP file (RFC 9649)."""

from app.imaging.layout import (
    BadImage,
    Budget,
    Data,
    Layout,
    Piece,
    orientation_exif,
    read_orientation,
    riff_chunks,
    take,
    truncated,
)

_PIXELS = (b"VP8 ", b"VP8L")
_KEPT = frozenset((*_PIXELS, b"ALPH", b"ANIM", b"ICCP"))
_SHOWN = (*_PIXELS, b"ANMF")
_KEPT_IN_FRAME = frozenset((*_PIXELS, b"ALPH"))
_EXIF_FLAG, _XMP_FLAG = 0x08, 0x04
_FRAME_HEAD = 16


def is_webp(head: bytes) -> bool:
    """Whether a file begins like a WebP (12 bytes)."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def read(data: Data) -> Layout:
    """Read a file up to its declared end; raises `BadImage`."""
    budget = Budget(data, bytes_per_part=1024)
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated()
    chunks = list(riff_chunks(data, 12, end, budget))
    if not any(kind in _SHOWN for kind, _, _ in chunks):
        raise BadImage("contains no image")
    first, start, stop = chunks[0]
    size = _read_size(first, data[start:stop][:10])
    if first != b"VP8X":
        return Layout(*size, 1, _chunk(b"RIFF", [b"WEBP", *_chunk(first, [slice(start, stop)])]))
    block = next((data[begin:stop] for kind, begin, stop in chunks if kind == b"EXIF"), b"")
    # Some encoders prepend JPEG's prefix.
    orientation = read_orientation(block.removeprefix(b"Exif\0\0"))
    flags = data[start] & ~(_EXIF_FLAG | _XMP_FLAG) | (_EXIF_FLAG if orientation > 1 else 0)
    pieces: list[Piece] = _chunk(b"VP8X", [bytes((flags,)) + data[start + 1 : start + 10]])
    for kind, begin, stop in chunks:
        if kind == b"ANMF":
            pieces += _chunk(kind, _frame(data, begin, stop, budget))
        elif kind in _KEPT:
            pieces += _chunk(kind, [slice(begin, stop)])
    if orientation > 1:
        pieces += _chunk(b"EXIF", [orientation_exif(orientation)])
    return Layout(*size, orientation, _chunk(b"RIFF", [b"WEBP", *pieces]))


def _frame(data: Data, start: int, stop: int, budget: Budget) -> list[Piece]:
    """Return an animation frame without unknown chunks."""
    pieces: list[Piece] = [take(data, start, min(start + _FRAME_HEAD, stop))]
    for kind, first, last in riff_chunks(data, start + _FRAME_HEAD, stop, budget):
        if kind in _KEPT_IN_FRAME:
            pieces += _chunk(kind, [slice(first, last)])
    return pieces


def _read_size(kind: bytes, head: bytes) -> tuple[int, int]:
    if len(head) < 10 and (kind != b"VP8L" or len(head) < 5):  # noqa: PLR2004 -- the bytes read below
        raise truncated()
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise BadImage("does not begin with its size")


def _chunk(kind: bytes, content: list[Piece]) -> list[Piece]:
    size = sum(piece.stop - piece.start if isinstance(piece, slice) else len(piece) for piece in content)
    return [kind + size.to_bytes(4, "little"), *content, *([b"\0"] if size % 2 else [])]
