"""Which files are accepted as images."""

import asyncio
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.imaging.executor import ImageExecutor
from app.imaging.inspect import ImageInfo, inspect
from app.imaging.layout import BadImage
from app.imaging.strip import strip
from tests.support.images.hostile import HOSTILE, Hostile
from tests.support.images.samples import encode, noise, telling

GOOD = {
    "png": encode(noise(), "PNG"),
    "png-interlaced-palette": encode(noise().convert("P"), "PNG"),
    "png-16-bit-gray": encode(noise(mode="L").convert("I;16"), "PNG"),
    "png-rgba": encode(noise(mode="RGBA"), "PNG"),
    "png-animated": telling("PNG", frames=3),
    "jpeg": encode(noise(), "JPEG"),
    "jpeg-progressive": encode(noise(), "JPEG", progressive=True),
    "jpeg-gray": encode(noise(mode="L"), "JPEG"),
    "jpeg-cmyk": encode(noise(mode="CMYK"), "JPEG"),
    "webp": encode(noise(), "WEBP"),
    "webp-lossless": encode(noise(), "WEBP", lossless=True),
    "webp-alpha": encode(noise(mode="RGBA"), "WEBP"),
    "webp-animated": telling("WEBP", frames=3),
    "gif": encode(noise(), "GIF"),
    "gif-animated": telling("GIF", frames=3),
}


def verdict(content: bytes, directory: Path) -> ImageInfo | str:
    (directory / "file").write_bytes(content)
    try:
        return inspect(directory / "file")
    except BadImage as bad:
        return bad.reason


@pytest.mark.parametrize("name", GOOD)
def test_pictures_of_all_kinds_are_taken(name: str, tmp_path: Path) -> None:
    kind = name.partition("-")[0]
    assert verdict(GOOD[name], tmp_path) == ImageInfo(f"image/{kind}", 64, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_as_viewers_show_it(kind: str, orientation: int, tmp_path: Path) -> None:
    size = (48, 64) if orientation >= 5 else (64, 48)
    assert verdict(telling(kind, orientation), tmp_path) == ImageInfo(f"image/{kind.lower()}", *size)


@pytest.mark.parametrize("name", GOOD)
def test_a_picture_cut_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    content = GOOD[name]
    for length in range(0, len(content), max(len(content) // 60, 1)):
        assert isinstance(verdict(content[:length], tmp_path), str), length


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_files(hostile: Hostile, tmp_path: Path) -> None:
    as_result = verdict(hostile.content, tmp_path)
    try:
        strip(tmp_path / "file", tmp_path / "clean")
        as_upload = verdict((tmp_path / "clean").read_bytes(), tmp_path)
    except BadImage as bad:
        as_upload = bad.reason
    for found in (as_upload, as_result):
        if hostile.refused is None:
            assert isinstance(found, ImageInfo)
        else:
            assert isinstance(found, str)
            assert found.startswith(hostile.refused)
    if hostile.refused is None:
        assert b"alert(1)" not in (tmp_path / "clean").read_bytes()
        assert b"PK\x03\x04" not in (tmp_path / "clean").read_bytes()


def test_bombs_are_refused_without_taking_memory(tmp_path: Path) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    for hostile in HOSTILE:
        if hostile.refused and "pixels" in hostile.refused:
            assert str(verdict(hostile.content, tmp_path)).startswith(hostile.refused)
    assert process.memory_info().rss - before < 20 * 1024 * 1024


def test_a_large_file_is_not_read_into_memory(tmp_path: Path) -> None:
    content = encode(noise(1500, 1500), "PNG", compress_level=0)
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    strip(tmp_path / "file", tmp_path / "clean")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "clean").stat().st_size == len(content)
    assert most < len(content) / 4


@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any file is accepted or rejected; stripping is idempotent."""
    directory = tmp_path_factory.getbasetemp()
    content = bytearray(GOOD[data.draw(st.sampled_from(sorted(GOOD)))])
    for _ in range(data.draw(st.integers(1, 4))):
        # The beginning matters most.
        at = data.draw(st.integers(0, 200) | st.integers(0, len(content) - 1)) % len(content)
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    found = verdict(bytes(content), directory)
    if isinstance(found, ImageInfo):
        strip(directory / "file", directory / "clean")
        assert verdict((directory / "clean").read_bytes(), directory) == found
        strip(directory / "clean", directory / "cleaner")
        assert (directory / "cleaner").read_bytes() == (directory / "clean").read_bytes()


@settings(max_examples=100)
@given(
    start=st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x40\0\0\0WEBP", b"RIFF\x40\0\0\0WEBPVP8X"]
    ),
    rest=st.binary(max_size=200),
)
def test_rubbish_behind_a_right_beginning(start: bytes, rest: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert isinstance(verdict(start + rest, tmp_path_factory.getbasetemp()), str)


async def test_the_executor_works_beside_the_event_loop_on_few_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_bytes(GOOD["jpeg"])
    executor = ImageExecutor(max_threads=2)
    found = await asyncio.gather(*(executor.inspect(tmp_path / "file") for _ in range(20)))
    assert found == [ImageInfo("image/jpeg", 64, 48)] * 20
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("pictures")]) <= 2
    with pytest.raises(BadImage):
        await ImageExecutor(max_pixels=100).inspect(tmp_path / "file")
    await executor.strip(tmp_path / "file", tmp_path / "clean")
    assert (await executor.thumbnail(tmp_path / "clean", 32))[8:12] == b"WEBP"
    executor.close()


def test_frames_larger_than_their_canvas_are_counted(tmp_path: Path) -> None:
    """A decoder may enlarge the image to its first frame."""
    content = bytearray(GOOD["gif"])
    content[6:10] = struct.pack("<HH", 10, 10)
    assert verdict(bytes(content), tmp_path) == ImageInfo("image/gif", 64, 48)
