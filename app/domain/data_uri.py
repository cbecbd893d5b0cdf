"""Inline images, as `data:image/png;base64,…` (RFC 2397)."""

import binascii
import re
from collections.abc import Iterator

_HEAD = re.compile(r"data:(?:image/[a-z0-9.+-]{1,64})?(?:;[a-z0-9-]{1,32}=[^;,]{0,64}){0,4};base64,", re.IGNORECASE)
_MAX_HEAD_CHARACTERS = 512
_ENCODED = (("%2B", "+"), ("%2b", "+"), ("%2F", "/"), ("%2f", "/"), ("%3D", "="), ("%3d", "="))
_CHARACTERS_AT_ONCE = 1024 * 1024  # a multiple of four, as base64 requires


class BadDataUri(ValueError):
    """An invalid data URI; the message's subject is the field."""


def is_data_uri(url: str) -> bool:
    """Whether a URL contains its content."""
    return url[:5].lower() == "data:"


def decode(uri: str) -> Iterator[bytes]:
    """Decode the content in chunks; raises `BadDataUri`, possibly midway.

    The media type must be an image type or absent; the actual type is detected from the bytes.
    """
    head = _HEAD.match(uri[:_MAX_HEAD_CHARACTERS])
    if head is None:
        raise BadDataUri("must be an http(s) URL, or a data URI that begins like data:image/png;base64,")
    text = uri[head.end() :]
    # Any URI may be percent-encoded. In base64, only these characters are ever encoded.
    if "%" in text:
        for encoded, character in _ENCODED:
            text = text.replace(encoded, character)
    padded = text + "=" * (-len(text) % 4)
    try:
        for start in range(0, len(padded), _CHARACTERS_AT_ONCE):
            yield binascii.a2b_base64(padded[start : start + _CHARACTERS_AT_ONCE], strict_mode=True)
    except ValueError:  # bad base64 or non-ASCII characters
        raise BadDataUri("is a data URI whose base64 can't be decoded") from None
