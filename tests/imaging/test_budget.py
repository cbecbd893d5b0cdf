"""The cost of reading an image is bounded by its size.

Calls are counted rather than timed, so that the load of the machine does not matter.
"""

import contextlib
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.imaging.inspect import inspect
from app.imaging.layout import BadImage
from app.imaging.strip import strip
from tests.support.images.hostile import GIF, HOSTILE, JPEG, PNG, Hostile
from tests.support.images.samples import jpeg_segment, png_chunk, riff_chunk, webp_frame, webp_with

FILE_BYTES = 700_000
# The limit of 10,000 parts, with up to sixty calls for each, and some for every part that larger files may have.
CALLS, CALLS_PER_BYTE = 600_000, 0.5
# Only the positions of parts are kept. Decoding takes one copy of the file.
MEMORY_BYTES, MEMORY_PER_BYTE = 8_000_000, 1.5

content = st.binary(max_size=24)
some = st.sampled_from
gif_blocks = st.lists(content.filter(bool), max_size=3).map(
    lambda blocks: b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"
)
gif_parts = st.one_of(
    st.builds(
        lambda label, blocks: bytes((0x21, label)) + blocks,
        some([0xF9, 0xFE, 0xFF, 0x01]) | st.integers(0, 255),
        gif_blocks,
    ),
    st.just(b"\x21\xff\x0bICCRGBG1012\0"),
    st.builds(lambda blocks: b"\x2c" + bytes(8) + b"\0\x02" + blocks, gif_blocks),
)
jpeg_parts = st.one_of(
    st.just(b"\xff"),
    st.builds(jpeg_segment, some([0xC0, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE]), content),
    st.builds(lambda head: jpeg_segment(0xE1, b"Exif\0\0" + head), content),
    st.builds(lambda head: jpeg_segment(0xE2, b"ICC_PROFILE\0" + head), content),
    st.builds(lambda scan: jpeg_segment(0xDA, b"\1\1\0\0\x3f\0") + scan, content),
)
png_parts = st.one_of(
    st.builds(
        png_chunk, some([b"IDAT", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"PLTE", b"tRNS", b"sPLT", b"fdAT"]), content
    ),
    st.just(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))),
    st.just(png_chunk(b"fcTL", bytes(26))),
)
webp_chunks = st.builds(
    riff_chunk, some([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"none"]), content
)
webp_parts = webp_chunks | st.lists(webp_chunks, max_size=40).map(lambda chunks: webp_frame(b"".join(chunks)))
MAKERS: dict[str, tuple[st.SearchStrategy[bytes], Callable[[bytes], bytes]]] = {
    "gif, at its end": (gif_parts, lambda parts: GIF[:-1] + parts + b";"),
    "gif, at its beginning": (gif_parts, lambda parts: GIF[:781] + parts + GIF[781:]),
    "jpeg, at its end": (jpeg_parts, lambda parts: JPEG[:-2] + parts + b"\xff\xd9"),
    "jpeg, at its beginning": (jpeg_parts, lambda parts: JPEG[:2] + parts + JPEG[2:]),
    "png, at its end": (png_parts, lambda parts: PNG[:-12] + parts + PNG[-12:]),
    "png, at its beginning": (png_parts, lambda parts: PNG[:33] + parts + PNG[33:]),
    "webp, at its end": (webp_parts, webp_with),
    "webp, in a frame": (webp_chunks, lambda parts: webp_with(webp_frame(parts))),
}


def calls_of(work: Callable[[], object]) -> int:
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def process(path: Path) -> None:
    with contextlib.suppress(BadImage):
        inspect(path)
    with contextlib.suppress(BadImage):
        strip(path, path.with_suffix(".clean"))


def check_budget(image: bytes, directory: Path) -> None:
    path = directory / "file"
    path.write_bytes(image)
    calls = calls_of(lambda: process(path))
    assert calls <= CALLS + CALLS_PER_BYTE * len(image)
    assert peak_of(lambda: process(path)) <= MEMORY_BYTES + MEMORY_PER_BYTE * len(image)


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=4)
@given(data=st.data())
def test_cost_is_bounded_by_size(kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A few parts are repeated until the file is large."""
    part, make = MAKERS[kind]
    parts = b"".join(data.draw(st.lists(part, min_size=1, max_size=3)))
    check_budget(make(parts * (FILE_BYTES // len(parts))), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_files_cost_no_more(hostile: Hostile, tmp_path: Path) -> None:
    check_budget(hostile.content, tmp_path)
