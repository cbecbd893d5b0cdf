"""Thumbnails."""

import io
from pathlib import Path

import pytest
from PIL import Image

from app.imaging.layout import BadImage
from app.imaging.thumbnail import thumbnail
from tests.support.images.samples import ICC, encode, exif, noise, telling


def small(content: bytes, directory: Path, width: int = 32) -> Image.Image:
    (directory / "file").write_bytes(content)
    found = Image.open(io.BytesIO(thumbnail(directory / "file", width)))
    assert found.format == "WEBP"
    found.load()
    return found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_it_is_small_and_keeps_its_shape(kind: str, tmp_path: Path) -> None:
    assert small(telling(kind), tmp_path).size == (32, 24)


def test_it_is_never_enlarged(tmp_path: Path) -> None:
    assert small(encode(noise(), "PNG"), tmp_path, 256).size == (64, 48)


def test_a_tall_picture_is_bounded_too(tmp_path: Path) -> None:
    assert small(encode(noise(20, 2000), "PNG"), tmp_path).size == (1, 128)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_it_is_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    """The upright image's red corner is always top left."""
    upright = Image.new("RGB", (64, 48), "blue")
    upright.paste("red", (0, 0, 32, 24))
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turned = upright if orientation == 1 else upright.transpose(Image.Transpose(inverse[orientation]))
    found = small(encode(turned, kind, exif=exif(orientation), quality=95), tmp_path)
    assert found.size == (32, 24)
    assert found.getexif().get(0x0112, 1) == 1
    red, blue = found.getpixel((6, 6)), found.getpixel((28, 20))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 180 > red[2]
    assert blue[2] > 180 > blue[0]


def test_colours_are_meant_as_before(tmp_path: Path) -> None:
    assert small(telling("JPEG"), tmp_path).info["icc_profile"] == ICC
    assert "icc_profile" not in small(encode(noise(mode="CMYK"), "JPEG", icc_profile=ICC), tmp_path).info


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_all_modes_can_be_shown(mode: str, tmp_path: Path) -> None:
    image = Image.new("L", (64, 64), 128).convert(mode)
    if mode == "I;16":
        image = Image.frombytes("I;16", (64, 64), b"\x00\x80" * 64 * 64)
    found = small(encode(image, "PNG"), tmp_path)
    shade = found.convert("RGB").getpixel((16, 16))
    assert isinstance(shade, tuple)
    assert mode == "1" or all(abs(channel - 128) < 8 for channel in shade)


def test_transparency_stays(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert small(encode(image, "PNG"), tmp_path).convert("RGBA").getpixel((3, 3))[3] == 0  # type: ignore[index]
    assert small(encode(image, "GIF"), tmp_path).convert("RGBA").getpixel((3, 3))[3] == 0  # type: ignore[index]


def test_what_is_no_picture_has_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xd8\xff\xd9")
    with pytest.raises(BadImage):
        thumbnail(tmp_path / "file", 32)
