"""The segments of a JPEG file (ITU T.81, annex B)."""

import re
from collections.abc import Iterator

from app.imaging.layout import (
    BadImage,
    Budget,
    Data,
    Layout,
    Piece,
    append,
    orientation_exif,
    read_orientation,
    take,
    truncated,
)

MAGIC = b"\xff\xd8\xff"
_EOI, _SOS, _APP0, _APP1, _APP2, _APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Tables, frame and scan headers, restart interval, number of lines.
_NEEDED = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, _SOS}
# In compressed data, a marker is neither a stuffed byte, nor a restart, nor padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
# A marker may be preceded by any number of fill bytes.
_FILL = re.compile(rb"\xff+")
_FIRST_WITH_LENGTH, _WITHOUT_LENGTH = 0xC0, range(0xD0, 0xD9)
_EXIF = b"Exif\0\0"
_JFIF_BYTES, _ADOBE_BYTES = 14, 12
# Each scan of a progressive image covers all of it; encoders make about ten.
_MAX_SCANS = 64


def read(data: Data) -> Layout:
    """Read a file up to its end marker; raises `BadImage`."""
    sizes: list[tuple[int, int]] = []
    orientation = 1
    pieces: list[Piece] = []
    scans = 0
    for marker, content, position in _segments(data):
        if marker in _FRAMES:
            sizes.append(_read_size(content))
        elif marker == _APP1 and content.startswith(_EXIF):
            orientation = read_orientation(content.removeprefix(_EXIF))
        elif marker == _SOS:
            scans += 1
            if scans > _MAX_SCANS:
                raise BadImage(f"is encoded in more than {_MAX_SCANS} passes")
        if (piece := _kept(marker, content, position)) is not None:
            append(pieces, piece)
    if len(sizes) != 1 or not scans:
        raise BadImage("contains no image, or more than one")
    head: list[Piece] = [b"\xff\xd8"]
    if orientation > 1:
        # JFIF must come first.
        if pieces and isinstance(pieces[0], bytes) and pieces[0][1] == _APP0:
            head.append(pieces.pop(0))
        head.append(_segment(_APP1, _EXIF + orientation_exif(orientation)))
    return Layout(*sizes[0], orientation, [*head, *pieces, b"\xff\xd9"])


def _segments(data: Data) -> Iterator[tuple[int, bytes, slice]]:
    """Yield marker, content and position of each segment.

    A scan's position includes the compressed data after its header.
    """
    budget = Budget(data, bytes_per_part=1024)
    at = 2
    while True:
        budget.spend()
        fill = _FILL.match(data, at)
        if fill is None:
            raise truncated() if at >= len(data) else BadImage("has bytes between its segments")
        at = fill.end() - 1
        marker = take(data, at + 1, at + 2)[0]
        if marker == _EOI:
            return
        if marker < _FIRST_WITH_LENGTH or marker in _WITHOUT_LENGTH:
            raise BadImage("has a segment of unknown type")
        end = at + 2 + int.from_bytes(take(data, at + 2, at + 4), "big")
        content = take(data, at + 4, end)
        if marker == _SOS:
            found = _MARKER.search(data, end)
            if found is None:
                raise truncated()
            end = found.start()
        yield marker, content, slice(at, end)
        at = end


def _read_size(frame: bytes) -> tuple[int, int]:
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if not width or not height:
        raise BadImage("has a width or height of 0")
    return width, height


def _kept(marker: int, content: bytes, position: slice) -> Piece | None:
    """Return the part of a segment to keep, if any."""
    if marker in _NEEDED or (marker == _APP2 and content.startswith(b"ICC_PROFILE\0")):
        return position
    if marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= _JFIF_BYTES:
        return _segment(_APP0, content[: _JFIF_BYTES - 2] + b"\0\0")  # without the thumbnail, of size 0 x 0
    if marker == _APP14 and content.startswith(b"Adobe") and len(content) >= _ADOBE_BYTES:
        return _segment(_APP14, content[:_ADOBE_BYTES])  # defines how colors are encoded
    return None


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content
