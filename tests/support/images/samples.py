"""Sample images for tests, valid and hostile."""

import io
import random
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, ImageCms

SECRET = b"51.5007N 0.1246W"
"""Fills all metadata that could identify an image's author."""
ICC: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(width: int = 64, height: int = 48, *, seed: int = 1, mode: str = "RGB") -> Image.Image:
    """Make an image of noise, which hardly compresses."""
    count = width * height * len(mode)
    return Image.frombytes(mode, (width, height), random.Random(seed).randbytes(count))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[0x010F] = SECRET.decode()
    if orientation != 1:
        found[0x0112] = orientation
    found.get_ifd(0x8825)[1] = "N"
    found.get_ifd(0x8769)[0x9003] = SECRET.decode()
    return found


@cache
def telling(kind: str, orientation: int = 1, *, frames: int = 1) -> bytes:
    """Make an image with all metadata and a color profile."""
    options: dict[str, Any] = {} if kind == "GIF" else {"exif": exif(orientation), "icc_profile": ICC}
    if frames > 1:
        options |= {"save_all": True, "append_images": [noise(seed=n) for n in range(2, frames + 1)]}
    if kind in {"JPEG", "GIF"}:
        options["comment"] = SECRET
    if kind in {"JPEG", "WEBP"}:
        options["xmp"] = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
    content = encode(noise(), kind, **options)
    if kind == "PNG":
        text = png_chunk(b"tEXt", b"Comment\0" + SECRET) + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET)
        content = content[:33] + text + png_chunk(b"tIME", bytes(7)) + png_chunk(b"prVt", SECRET) + content[33:]
    if kind == "JPEG":
        iptc = b"Photoshop 3.0\x008BIM\x04\x04" + SECRET
        jfif = b"\xff\xe0\x00\x13JFXX\0\x13" + SECRET[:10] + b"\0"
        content = content[:2] + jfif + jpeg_segment(0xED, iptc) + content[2:]
    if kind == "GIF":
        xmp = b"\x21\xff\x0bXMP DataXMP" + bytes((len(SECRET),)) + SECRET + b"\0"
        content = content[:-1] + xmp + b";"
    return content


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    """Make a PNG that declares a size, with these pixels."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def gif_of(width: int, height: int, *blocks: bytes, frame: tuple[int, int] | None = None) -> bytes:
    """Make a GIF with a declared size and one frame."""
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, *(frame or (1, 1)), 0) + b"\x02\x02\x44\x01\x00"
    colors = b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + colors + b"".join(blocks) + image + b";"


def webp_of(width: int, height: int) -> bytes:
    """Make a WebP with a declared size but no pixels."""
    bits = (width - 1) | (height - 1) << 14
    content = b"\x2f" + struct.pack("<I", bits) + bytes(15)
    return b"RIFF" + struct.pack("<I", 12 + len(content)) + b"WEBPVP8L" + struct.pack("<I", len(content)) + content


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp_with(chunks: bytes) -> bytes:
    """A WebP of noise, followed by more chunks."""
    head = riff_chunk(b"VP8X", bytes(4) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little"))
    body = b"WEBP" + head + encode(noise(), "WEBP")[12:] + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_frame(chunks: bytes) -> bytes:
    """A frame of an animated WebP with these chunks."""
    return riff_chunk(b"ANMF", bytes(16) + chunks)


def wide_exif(size: int = 1_000_000) -> bytes:
    """An EXIF block with many values of almost its size."""
    count = min(65_535, (size - 100) // 12)
    values = b"".join(struct.pack("<HHII", tag, 7, size - 200, 8) for tag in range(count))
    return (b"II*\0" + struct.pack("<IH", 8, count) + values).ljust(size, b"\0")


def jpeg_of(width: int, height: int) -> bytes:
    """Make a small JPEG that declares another size."""
    content = bytearray(encode(noise(16, 16), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def many_passes(count: int) -> bytes:
    """Make a progressive JPEG that repeats its last pass."""
    content = encode(noise(16, 16), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + b"\xff\xd9"


def image_bytes(*, seed: int = 0, width: int = 64, height: int = 48, kind: str = "PNG") -> bytes:
    """Encode an image of noise that depends on the seed."""
    return encode(noise(width, height, seed=seed), kind)
