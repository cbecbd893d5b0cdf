"""The blocks of a GIF file (GIF89a)."""

from app.imaging.layout import BadImage, Budget, Data, Layout, Piece, append, take

MAGICS = (b"GIF87a", b"GIF89a")
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_LOOPING = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_COLOR_PROFILE = b"ICCRGBG1012"
_APPLICATION_HEAD = 3 + 11
# A looping block contains a loop count (three bytes), a buffer size (five), or both.
_LOOPING_BYTES = _APPLICATION_HEAD + 4 + 6 + 1
_SCREEN_BYTES, _IMAGE_BYTES = 13, 10


def read(data: Data) -> Layout:
    """Read a file up to its trailer; raises `BadImage`."""
    budget = Budget(data, bytes_per_part=64)
    screen = take(data, 0, _SCREEN_BYTES)
    width, height = int.from_bytes(screen[6:8], "little"), int.from_bytes(screen[8:10], "little")
    if not width or not height:
        raise BadImage("has a width or height of 0")
    at = _SCREEN_BYTES + _colors(screen[10])
    pieces: list[Piece] = [slice(0, at)]
    has_pixels = False
    while True:
        budget.spend()
        kind = take(data, at, at + 1)[0]
        if kind == _TRAILER:
            break
        if kind == _EXTENSION:
            label = take(data, at + 1, at + 2)[0]
            end = _skip_blocks(data, at + 2, budget)
            if _is_kept(label, data[at : at + _APPLICATION_HEAD], end - at):
                append(pieces, slice(at, end))
        elif kind == _IMAGE:
            image = take(data, at, at + _IMAGE_BYTES)
            # The code size comes before the blocks.
            end = _skip_blocks(data, at + _IMAGE_BYTES + _colors(image[9]) + 1, budget)
            append(pieces, slice(at, end))
            if not has_pixels:  # some decoders enlarge the screen to fit the first image
                left, top, across, down = (int.from_bytes(image[n : n + 2], "little") for n in (1, 3, 5, 7))
                width, height = max(width, left + across), max(height, top + down)
            has_pixels = True
        else:
            raise BadImage("has a block of unknown type")
        at = end
    if not has_pixels:
        raise BadImage("contains no image")
    return Layout(width, height, 1, [*pieces, bytes((_TRAILER,))])


def _colors(flags: int) -> int:
    """Return a color table's size in bytes, from its flags."""
    return 3 * 2 ** ((flags & 0x07) + 1) if flags & 0x80 else 0


def _skip_blocks(data: Data, at: int, budget: Budget) -> int:
    while size := take(data, at, at + 1)[0]:
        budget.spend()
        at += 1 + size
    return at + 1


def _is_kept(label: int, head: bytes, size: int) -> bool:
    if label == _APPLICATION:
        name = head[3:]
        return name == _COLOR_PROFILE or (name in _LOOPING and size <= _LOOPING_BYTES)
    return label == _GRAPHIC_CONTROL
