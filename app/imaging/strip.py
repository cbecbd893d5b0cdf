"""Taking out of a file what tells about its maker."""

from pathlib import Path

from app.imaging.inspect import opened, read_layout


def strip(source: Path, target: Path) -> None:
    """Copy a picture without EXIF, GPS, XMP, IPTC, comments and previews, or whatever follows its end.

    The compressed pixels stay as they are, byte for byte; so do colour profiles and how the picture is turned. Raises
    `BadImage` for a file that is not one of the accepted formats, or not complete.
    """
    with opened(source) as data, memoryview(data) as view, target.open("wb") as file:
        for piece in read_layout(data)[1].pieces:
            if isinstance(piece, slice):
                with view[piece] as part:
                    file.write(part)
            else:
                file.write(piece)
