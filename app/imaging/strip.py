"""Removing personal metadata from image files."""

from pathlib import Path

from app.imaging.inspect import opened, read_layout


def strip(source: Path, target: Path) -> None:
    """Copy an image without its personal metadata; raises `BadImage`.

    EXIF, GPS, XMP, IPTC, comments, previews and trailing bytes are removed. The compressed pixels, color profiles and
    the orientation stay as they are.
    """
    with opened(source) as data, target.open("wb") as file:
        read_layout(data)[1].write(data, file)
