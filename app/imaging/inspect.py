"""What a file is: decided by its bytes, decoded far enough to know that it is whole."""

from pathlib import Path

import msgspec

MAX_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded, width times height."""


class Picture(msgspec.Struct, frozen=True):
    """What was found; width and height in pixels as a viewer shows them (orientation applied)."""

    content_type: str
    width: int
    height: int


class BadPicture(Exception):
    """The file is no picture that is accepted; `reason` says why, in words for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def inspect(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Check a file; raises `BadPicture`. Takes CPU time: see `Workshop`."""
    raise NotImplementedError
