"""Malicious, revealing or broken files, and how each is handled.

`make docs` writes them as a table into docs/reference/images.md.
"""

import zlib
from dataclasses import dataclass

from tests.support.images.samples import (
    encode,
    gif_of,
    jpeg_of,
    jpeg_segment,
    many_passes,
    noise,
    png_chunk,
    png_of,
    riff_chunk,
    telling,
    webp_frame,
    webp_of,
    webp_with,
    wide_exif,
)

EMPTY_FRAME = b"\x2c" + bytes(9) + b"\x02\0"
FRAME = b"\x2c" + bytes(4) + b"\1\0\1\0\0\x02\x02\x44\x01\0"
ZIP = b"PK\x03\x04" + bytes(60)
SCRIPT = b"<script>alert(1)</script>"


@dataclass(frozen=True)
class Hostile:
    """A file and its expected handling.

    `refused` is the beginning of the reason, None if it is accepted; `so` says what happens then. Results are treated
    in the same way, and are stored unchanged.
    """

    name: str
    content: bytes
    refused: str | None = None
    so: str = ""

    @property
    def as_table_row(self) -> str:
        """Its row in docs/reference/images.md."""
        outcome = f"refused: {self.refused}" if self.refused else f"accepted; {self.so}"
        return f"| {self.name} | {outcome} |"


def _not(name: str) -> str:
    return f"is {name}, not a PNG, JPEG, WebP or GIF image"


PNG, JPEG, GIF, WEBP = (encode(noise(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP"))
INCOMPLETE = "is incomplete: its end is missing"
UNDECODABLE = "can't be decoded"
TOO_MANY = "consists of too many small parts"
TOO_LARGE = "has more than 50,000,000 pixels"
CUT = "the trailing data is removed"
DROPPED = "the script is removed"

HOSTILE = [
    Hostile("empty file", b"", "is empty"),
    Hostile("HTML", b"<!doctype html>" + SCRIPT, _not("HTML or XML")),
    Hostile("SVG with a script", b'<?xml version="1.0"?><svg onload="alert(1)"/>', _not("an SVG image")),
    Hostile("PDF", b"%PDF-1.7\n", _not("a PDF")),
    Hostile("TIFF", encode(noise(), "TIFF"), _not("a TIFF image")),
    Hostile("BMP", encode(noise(), "BMP"), _not("a BMP image")),
    Hostile("icon", b"\0\0\1\0\1\0" + bytes(60), _not("an icon")),
    Hostile("AVIF or HEIC", b"\0\0\0\x1cftypavif" + bytes(60), _not("a HEIC or AVIF image")),
    Hostile("ZIP", ZIP, _not("a ZIP archive")),
    Hostile("HTML, then a PNG", SCRIPT + PNG, _not("HTML or XML")),
    Hostile("PNG without its second half", PNG[: len(PNG) // 2], INCOMPLETE),
    Hostile("PNG without its last byte", PNG[:-1], INCOMPLETE),
    Hostile("JPEG without its second half", JPEG[: len(JPEG) // 2], INCOMPLETE),
    Hostile("WebP without its second half", WEBP[: len(WEBP) // 2], INCOMPLETE),
    Hostile("GIF without its second half", GIF[: len(GIF) // 2], INCOMPLETE),
    Hostile(
        "PNG with a flipped bit", PNG[:200] + bytes((PNG[200] ^ 1,)) + PNG[201:], "is damaged: a checksum is wrong"
    ),
    Hostile("PNG with half of its pixels", png_of(64, 64, pixels=bytes(64 * 97)), UNDECODABLE),
    Hostile("PNG with pixels that aren't zlib", PNG[:33] + png_chunk(b"IDAT", b"x" * 50) + PNG[-12:], UNDECODABLE),
    Hostile("PNG of 30,000 x 30,000 in a kilobyte", png_of(30_000, 30_000, pixels=bytes(9999)), TOO_LARGE),
    Hostile("PNG of 1 x 1, then of 64 x 48", png_of(1, 1)[:33] + PNG[8:], "declares more than one size"),
    Hostile("PNG of 2^31 x 2^31", png_of(2**31 - 1, 2**31 - 1), TOO_LARGE),
    Hostile("JPEG that declares 65,500 x 65,500", jpeg_of(65_500, 65_500), TOO_LARGE),
    Hostile("GIF that declares 65,535 x 65,535", gif_of(65_535, 65_535), TOO_LARGE),
    Hostile("GIF of one pixel with a frame of 65,535 x 65,535", gif_of(1, 1, frame=(65_535, 65_535)), TOO_LARGE),
    Hostile("WebP that declares 16,384 x 16,384", webp_of(16_384, 16_384), TOO_LARGE),
    Hostile("JPEG with a thousand passes", many_passes(1000), "is encoded in more than 64 passes"),
    Hostile(
        "GIF of a million tiny blocks",
        gif_of(1, 1, b"\x21\xfe" + b"\1x" * 10**6 + b"\0"),
        TOO_MANY,
    ),
    Hostile(
        "PNG with a text that unpacks to 100 MB",
        PNG[:33] + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) + PNG[33:],
        so="the text is removed without decompression",
    ),
    Hostile(
        "PNG with a color profile that unpacks to 100 MB",
        PNG[:33] + png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8))) + PNG[33:],
        UNDECODABLE,
    ),
    Hostile("GIF of three million empty blocks", GIF[:-1] + b"\x21\xf9\0" * 3_000_000 + b";", TOO_MANY),
    Hostile("GIF of 200,000 empty frames", GIF[:-1] + EMPTY_FRAME * 200_000 + b";", TOO_MANY),
    Hostile("PNG of 200,000 empty chunks", PNG[:33] + png_chunk(b"tEXt", b"") * 200_000 + PNG[33:], TOO_MANY),
    Hostile("JPEG of 200,000 empty comments", JPEG[:2] + jpeg_segment(0xFE, b"") * 200_000 + JPEG[2:], TOO_MANY),
    Hostile("WebP of 200,000 empty chunks", webp_with(riff_chunk(b"none", b"") * 200_000), TOO_MANY),
    Hostile(
        "WebP with a frame of 200,000 empty chunks", webp_with(webp_frame(riff_chunk(b"none", b"") * 200_000)), TOO_MANY
    ),
    Hostile("JPEG with two million fill bytes", JPEG[:2] + b"\xff" * 2_000_000 + JPEG[2:], so="they are dropped"),
    Hostile(
        "PNG with 2,000 color profiles of a megabyte each",
        PNG[:33] + png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6))) * 2_000 + PNG[33:],
        so="only the first is kept",
    ),
    Hostile(
        "PNG with 65,535 EXIF values as large as the block",
        PNG[:33] + png_chunk(b"eXIf", wide_exif()) + PNG[33:],
        so="they are dropped unread",
    ),
    Hostile("GIF of 5,000 frames", gif_of(64, 64, FRAME * 5000), so="only the first frame is decoded"),
    Hostile("PNG, then HTML", PNG + SCRIPT, so=CUT),
    Hostile("JPEG, then a ZIP", JPEG + ZIP, so=CUT),
    Hostile("GIF, then a ZIP", GIF + ZIP, so=CUT),
    Hostile("WebP, then a ZIP", WEBP + ZIP, so=CUT),
    Hostile("JPEG with a script as comment", JPEG[:2] + jpeg_segment(0xFE, SCRIPT) + JPEG[2:], so=DROPPED),
    Hostile("PNG with a script as text", PNG[:33] + png_chunk(b"tEXt", b"a\0" + SCRIPT) + PNG[33:], so=DROPPED),
    Hostile("GIF that is also JavaScript", b"GIF89a=1;alert(1)//" + bytes(60), "has a block of unknown type"),
    Hostile("JPEG with EXIF, GPS, XMP and IPTC", telling("JPEG", 6), so="only the orientation is kept"),
]
