"""Stripping removes personal metadata and keeps the image unchanged."""

import io
import random
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from app.imaging.inspect import ImageInfo, inspect
from app.imaging.layout import BadImage, read_orientation
from app.imaging.strip import strip
from tests.support.images.samples import ICC, SECRET, encode, exif, jpeg_segment, noise, telling

KINDS = ["JPEG", "PNG", "WEBP", "GIF"]


def stripped(content: bytes, directory: Path) -> bytes:
    (directory / "file").write_bytes(content)
    strip(directory / "file", directory / "clean")
    return (directory / "clean").read_bytes()


def frames(content: bytes) -> list[bytes]:
    with Image.open(io.BytesIO(content)) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append(image.convert("RGBA").tobytes())
        return found


def compressed(content: bytes, kind: str) -> bytes:
    """Extract the compressed pixels with independent code."""
    if kind == "JPEG":
        return content[content.index(b"\xff\xda") :].partition(b"\xff\xd9")[0]
    if kind == "PNG":
        return b"".join(
            match[1] for match in re.finditer(rb"(?s)IDAT(.*?)....(?=....(?:IDAT|IEND|fcTL|eXIf))", content)
        )
    if kind == "WEBP":
        at = content.index(b"VP8 ")
        return content[at : at + 8 + struct.unpack("<I", content[at + 4 : at + 8])[0]]
    image = content[content.index(struct.pack("<BHHHH", 0x2C, 0, 0, 64, 48)) : -1]
    return image.partition(b"\x21\xff\x0bXMP")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_maker_is_left(kind: str, tmp_path: Path) -> None:
    content = telling(kind, 6)
    assert SECRET in content
    clean = stripped(content, tmp_path)
    assert SECRET not in clean
    assert SECRET[:10] not in clean
    for word in (b"xmpmeta", b"XMP", b"Photoshop", b"JFXX", b"tEXt", b"iTXt", b"tIME", b"prVt", b"Comment"):
        assert word not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert set(image.getexif()) <= {0x0112}
        assert not image.getexif().get_ifd(0x8825)
        assert "comment" not in image.info


@pytest.mark.parametrize(("kind", "count"), [*((kind, 1) for kind in KINDS), ("PNG", 3), ("WEBP", 3), ("GIF", 3)])
def test_pixels_stay_as_they_are(kind: str, count: int, tmp_path: Path) -> None:
    content = telling(kind, 1, frames=count)
    clean = stripped(content, tmp_path)
    assert frames(clean) == frames(content)
    assert len(frames(clean)) == count
    if count == 1:
        assert compressed(clean, kind) == compressed(content, kind)
        assert len(compressed(clean, kind)) > 1000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_profile_and_the_turn_stay(kind: str, orientation: int, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(stripped(telling(kind, orientation), tmp_path))) as image:
        assert image.info["icc_profile"] == ICC
        assert dict(image.getexif()) == ({0x0112: orientation} if orientation > 1 else {})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_clean_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    clean = stripped(telling(kind, 6), tmp_path)
    assert stripped(clean, tmp_path) == clean


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_the_picture_is_cut_off(kind: str, tmp_path: Path) -> None:
    content = encode(noise(), kind)
    clean = stripped(content, tmp_path)
    assert stripped(content + b"PK\x03\x04 and more", tmp_path) == clean


def test_a_looping_animation_goes_on_looping(tmp_path: Path) -> None:
    content = encode(noise(), "GIF", save_all=True, append_images=[noise(seed=2)], loop=3, duration=70)
    with Image.open(io.BytesIO(stripped(content, tmp_path))) as image:
        assert (image.info["loop"], image.info["duration"]) == (3, 70)


def test_a_preview_in_a_jpeg_goes(tmp_path: Path) -> None:
    content = encode(noise(), "JPEG")
    assert content[2:4] == b"\xff\xe0"
    preview = content[4:6] + content[6:18] + b"\1\1abc"
    jfif = jpeg_segment(0xE0, preview[2:])
    clean = stripped(content[:2] + jfif + content[20:], tmp_path)
    assert b"abc" not in clean
    assert clean[:20] == content[:18] + b"\0\0"


def test_colours_of_cmyk_stay_right(tmp_path: Path) -> None:
    content = encode(noise(mode="CMYK"), "JPEG")
    assert b"Adobe" in stripped(content, tmp_path)
    assert frames(stripped(content, tmp_path)) == frames(content)


def test_unknown_parts_inside_a_frame_go(tmp_path: Path) -> None:
    content = bytearray(telling("WEBP", frames=2))
    at = content.rindex(b"ANMF")
    size = struct.unpack("<I", content[at + 4 : at + 8])[0]
    more = b"priv" + struct.pack("<I", len(SECRET)) + SECRET
    content[at + 8 + size : at + 8 + size] = more
    content[at + 4 : at + 8] = struct.pack("<I", size + len(more))
    content[4:8] = struct.pack("<I", len(content) - 8)
    clean = stripped(bytes(content), tmp_path)
    assert SECRET not in clean
    assert len(frames(clean)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_incomplete_file_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="is incomplete"):
        stripped(encode(noise(), kind)[:-10], tmp_path)


def test_the_second_picture_of_a_phone_goes(tmp_path: Path) -> None:
    both = encode(noise(), "MPO", save_all=True, append_images=[noise(seed=2)], exif=exif(6))
    clean = stripped(both, tmp_path)
    assert inspect(tmp_path / "file") == inspect(tmp_path / "clean") == ImageInfo("image/jpeg", 48, 64)
    assert b"MPF" not in clean
    assert frames(clean) == frames(both)[:1]


def test_broken_blocks_turn_nothing() -> None:
    good = Image.Exif()
    good[0x0112] = 6
    content = good.tobytes().removeprefix(b"Exif\0\0")
    assert read_orientation(content) == 6
    rng = random.Random(1)
    for _ in range(500):
        broken = bytearray(content)
        broken[rng.randrange(len(broken))] = rng.randrange(256)
        assert read_orientation(bytes(broken[: rng.randrange(len(broken) + 1)])) in range(1, 9)
    assert read_orientation(zlib.compress(content)) == 1
