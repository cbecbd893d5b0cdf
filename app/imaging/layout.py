"""The structure of image files, and shared parsing helpers."""

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import BinaryIO

import msgspec

Data = bytes | mmap
Piece = slice | bytes
"""A part of a file, or its replacement."""

_ORIENTATION = 0x0112
_ORIENTATIONS = range(1, 9)
_FIRST_SWAPPED = 5
_ENTRY_BYTES, _VALUE_OFFSET = 12, 8
# TIFF's types BYTE, SHORT and LONG, as `struct` calls them.
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}


class BadImage(Exception):
    """A rejected file; `reason` completes "The file …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Layout(msgspec.Struct, frozen=True):
    """The structure of a complete file.

    Width and height are in pixels, before orientation; `pieces` make up the image without its metadata.
    """

    width: int
    height: int
    orientation: int
    pieces: list[Piece]

    @property
    def is_rotated(self) -> bool:
        """Whether viewers swap width and height."""
        return self.orientation >= _FIRST_SWAPPED

    def write(self, data: Data, into: BinaryIO) -> None:
        """Write the image without its metadata; `data` is its file."""
        with memoryview(data) as view:
            for piece in self.pieces:
                if isinstance(piece, slice):
                    with view[piece] as part:
                        into.write(part)
                else:
                    into.write(piece)


class Budget:
    """Limits the parts of a file, and thus the time."""

    def __init__(self, data: Data, *, bytes_per_part: int) -> None:
        self._left = 10_000 + len(data) // bytes_per_part

    def spend(self) -> None:
        """Count one part; raises `BadImage` beyond the limit."""
        self._left -= 1
        if self._left < 0:
            raise BadImage("consists of too many small parts")


def append(pieces: list[Piece], piece: Piece) -> None:
    """Add a piece; adjacent parts of the file become one."""
    last = pieces[-1] if pieces else None
    if isinstance(piece, slice) and isinstance(last, slice) and last.stop == piece.start:
        pieces[-1] = slice(last.start, piece.stop)
    else:
        pieces.append(piece)


def truncated() -> BadImage:
    """Return the error for a file that ends too early."""
    return BadImage("is incomplete: its end is missing")


def take(data: Data, start: int, end: int) -> bytes:
    """Return part of a file; raises `BadImage` past its end."""
    if end > len(data):
        raise truncated()
    return data[start:end]


def read_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 by default.

    The block begins with its TIFF header. Nothing else is read: it can contain 65,535 values.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for at in range(directory + 2, directory + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == _ORIENTATION and kind in _WHOLE_NUMBERS:
                (orientation,) = struct.unpack_from(order + _WHOLE_NUMBERS[kind], exif, at + _VALUE_OFFSET)
                return orientation if orientation in _ORIENTATIONS else 1
    except struct.error:
        pass
    return 1


def orientation_exif(orientation: int) -> bytes:
    """Return an EXIF block that contains only the orientation."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def riff_chunks(data: Data, start: int, end: int, budget: Budget) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each RIFF chunk's content."""
    while start < end:
        budget.spend()
        head = take(data, start, start + 8)
        size = int.from_bytes(head[4:], "little")
        if start + 8 + size > end:
            raise truncated()
        yield head[:4], start + 8, start + 8 + size
        start += 8 + size + size % 2
