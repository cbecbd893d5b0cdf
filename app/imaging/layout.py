"""What the bytes of a picture file are made of, as far as it takes to judge it and to rewrite it."""

import struct
from collections.abc import Iterator
from mmap import mmap

import msgspec
from PIL import Image

Data = bytes | mmap
Piece = slice | bytes
"""A part of a file as it is, or bytes that take the place of some."""

_ORIENTATION = 0x0112
_ORIENTATIONS = range(1, 9)
_FIRST_SWAPPED = 5


class BadImage(Exception):
    """The file is no picture that is accepted; `reason` says why, in words for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Layout(msgspec.Struct, frozen=True):
    """A file that is complete by its structure.

    Width and height in pixels as they are stored; `pieces` make up the same picture without its metadata.
    """

    width: int
    height: int
    orientation: int
    pieces: list[Piece]

    @property
    def is_turned(self) -> bool:
        """Whether viewers show its width as height."""
        return self.orientation >= _FIRST_SWAPPED


class Budget:
    """Bounds the parts of a file, so that one made of crumbs takes no more time than its size allows for."""

    def __init__(self, data: Data, *, bytes_per_part: int) -> None:
        self._left = 10_000 + len(data) // bytes_per_part

    def spend(self) -> None:
        """Count one part; raises `BadImage` for one too many."""
        self._left -= 1
        if self._left < 0:
            raise BadImage("is made of far too many small parts")


def truncated() -> BadImage:
    """Say that a file ends too early."""
    return BadImage("is not complete: its end is missing")


def take(data: Data, start: int, end: int) -> bytes:
    """Return a part of a file; raises `BadImage` if it is not all there."""
    if end > len(data):
        raise truncated()
    return data[start:end]


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that an EXIF block (from its TIFF header on) names; 1 if none."""
    found = Image.Exif()
    try:
        found.load(exif)
        orientation = found.get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 -- what the parser raises for broken blocks is listed nowhere; they are dropped
        return 1
    return orientation if isinstance(orientation, int) and orientation in _ORIENTATIONS else 1


def orientation_exif(orientation: int) -> bytes:
    """Write an EXIF block that says nothing but how the picture is turned."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def riff_chunks(data: Data, start: int, end: int, budget: Budget) -> Iterator[tuple[bytes, int, int]]:
    """Walk the chunks of a RIFF file: name, beginning and end of the content (its padding not included)."""
    while start < end:
        budget.spend()
        head = take(data, start, start + 8)
        size = int.from_bytes(head[4:], "little")
        if start + 8 + size > end:
            raise truncated()
        yield head[:4], start + 8, start + 8 + size
        start += 8 + size + size % 2
