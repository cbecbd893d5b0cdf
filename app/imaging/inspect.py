"""Detects a file's type, and decodes it to verify it."""

import contextlib
import io
from collections.abc import Callable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

import msgspec
from PIL import Image, WebPImagePlugin  # noqa: F401 -- registers WebP; Pillow would import every plugin for it

from app.imaging import gif, jpeg, png, webp
from app.imaging.layout import BadImage, Data, Layout

MAX_PIXELS = 50_000_000
"""The largest image to decode, about that of the largest phone cameras."""
_HEAD = 512
_JPEG_SCALE = 8
# For error messages only.
_KNOWN_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\0\0\1\0", "an icon"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "compressed data"),
)


class ImageInfo(msgspec.Struct, frozen=True):
    """An image's type, and its size after applying orientation."""

    content_type: str
    width: int
    height: int


def inspect(path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Check a file; raises `BadImage`. CPU-bound: use `ImageExecutor`."""
    with opened(path) as data:
        kind, layout = read_layout(data)
        if layout.width * layout.height > max_pixels:
            raise BadImage(f"has more than {max_pixels:,} pixels ({layout.width} x {layout.height})")
        _decode(data, kind, layout)
    width, height = (layout.height, layout.width) if layout.is_rotated else (layout.width, layout.height)
    return ImageInfo(f"image/{kind.lower()}", width, height)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[mmap]:
    """Map a file into memory; raises `BadImage` if empty."""
    if path.stat().st_size == 0:
        raise BadImage("is empty")
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data


def read_layout(data: Data) -> tuple[str, Layout]:
    """Return Pillow's format name and the structure; raises `BadImage`."""
    head = data[:_HEAD]
    readers: list[tuple[bool, str, Callable[[Data], Layout]]] = [
        (head.startswith(png.MAGIC), "PNG", png.read),
        (head.startswith(jpeg.MAGIC), "JPEG", jpeg.read),
        (webp.is_webp(head), "WEBP", webp.read),
        (head.startswith(gif.MAGICS), "GIF", gif.read),
    ]
    for matches, kind, read in readers:
        if matches:
            return kind, read(data)
    name = _name_of(head)
    raise BadImage(
        f"is {name}, not a PNG, JPEG, WebP or GIF image" if name else "is not a PNG, JPEG, WebP or GIF image"
    )


@contextlib.contextmanager
def decoder(data: Data, kind: str, layout: Layout) -> Iterator[Image.Image]:
    """Open an image for decoding, without its metadata.

    Decoders parse metadata as well, which can take much longer than decoding.
    """
    bare = io.BytesIO()
    layout.write(data, bare)
    with Image.open(bare, formats=(kind,)) as image:
        yield image


def _decode(data: Data, kind: str, layout: Layout) -> None:
    """Decode the first frame."""
    size = layout.width, layout.height
    try:
        with decoder(data, kind, layout) as image:
            # The decoder may take the size from elsewhere, such as a second header.
            found = image.size
            if found == size:
                if kind == "JPEG":  # still read completely, but decoded at an eighth of its size
                    image.draft(None, (max(image.width // _JPEG_SCALE, 1), max(image.height // _JPEG_SCALE, 1)))
                image.load()
    except Exception as error:  # decoders document no exceptions
        raise BadImage(f"can't be decoded as {kind}") from error
    if found != size:
        raise BadImage("declares more than one size")


def _name_of(head: bytes) -> str:
    """Name another kind of file; "" if unknown."""
    for magic, name in _KNOWN_OTHERS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF image" if head[8:12] in {b"avif", b"avis", b"heic", b"heix", b"mif1"} else "a video"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        return "an SVG image" if b"<svg" in text else "HTML or XML"
    if text.startswith((b"{", b"[")):
        return "JSON"
    return ""
