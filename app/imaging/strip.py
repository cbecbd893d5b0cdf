"""Removes personal metadata from image files."""

from pathlib import Path

from app.imaging.inspect import opened, read_layout


def strip(source: Path, target: Path) -> None:
    """Copy an image without its personal metadata; raises `BadImage`.

    Removes EXIF, GPS, XMP, IPTC, comments, previews and trailing bytes. Keeps the compressed pixels, color profiles and
    the orientation.
    """
    with opened(source) as data, target.open("wb") as file:
        read_layout(data)[1].write(data, file)
