"""What a file is: decided by its bytes, decoded far enough to know that it is whole."""

import contextlib
from collections.abc import Callable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

import msgspec
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from app.imaging import gif, jpeg, png, webp
from app.imaging.layout import BadImage, Data, Layout

MAX_PIXELS = 50_000_000
"""Largest picture that is decoded, width times height: about what the largest cameras of phones make."""
FORMATS = tuple(
    plugin.format
    for plugin in (
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
_HEAD = 512
_JPEG_SCALE = 8
# Only for the words of a refusal.
_KNOWN_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\0\0\1\0", "an icon"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "compressed data"),
)


class ImageInfo(msgspec.Struct, frozen=True):
    """What was found; width and height in pixels as a viewer shows them (orientation applied)."""

    content_type: str
    width: int
    height: int


def inspect(path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Check a file; raises `BadImage`. Takes CPU time: see `ImageExecutor`."""
    with opened(path) as data:
        kind, layout = read_layout(data)
    if layout.width * layout.height > max_pixels:
        raise BadImage(f"has more than {max_pixels:,} pixels ({layout.width} x {layout.height})")
    _decode(path, kind, layout)
    width, height = (layout.height, layout.width) if layout.is_turned else (layout.width, layout.height)
    return ImageInfo(f"image/{kind.lower()}", width, height)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[mmap]:
    """Give a file's bytes without reading it into memory; raises `BadImage` for an empty one."""
    if path.stat().st_size == 0:
        raise BadImage("is empty")
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data


def read_layout(data: Data) -> tuple[str, Layout]:
    """Tell a file's format (as Pillow names it) and structure; raises `BadImage`."""
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
    raise BadImage(f"is {_name_of(head)}, not a PNG, JPEG, WebP or GIF picture")


def open_image(path: Path, kind: str | None = None) -> Image.Image:
    """Open a file as one of the accepted formats, or as this one; nothing is decoded yet."""
    return Image.open(path, formats=FORMATS if kind is None else (kind,))


def _decode(path: Path, kind: str, layout: Layout) -> None:
    """Decode the first frame, a JPEG at an eighth of its size: all of it is read, little of it is kept."""
    size = layout.width, layout.height
    try:
        with open_image(path, kind) as image:
            # The decoder may believe another part of the file than we do, such as a second head.
            found = image.size
            if found == size:
                if kind == "JPEG":
                    image.draft(None, (max(image.width // _JPEG_SCALE, 1), max(image.height // _JPEG_SCALE, 1)))
                image.load()
    except Exception as error:  # what decoders raise for bytes of strangers is listed nowhere
        raise BadImage(f"can't be decoded as {kind}") from error
    if found != size:
        raise BadImage("states more than one size")


def _name_of(head: bytes) -> str:
    for magic, name in _KNOWN_OTHERS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF picture" if head[8:12] in {b"avif", b"avis", b"heic", b"heix", b"mif1"} else "a video"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        return "an SVG picture" if b"<svg" in text else "HTML or XML"
    if text.startswith((b"{", b"[")):
        return "JSON"
    return "something else"
