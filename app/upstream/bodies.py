"""Decodes the upstream's bodies.

Handles compression, character sets, forms, and JSON wrapped in JSON, with limits on size and depth. Anything that can't
be decoded is None, never an exception.
"""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

MAX_BODY_BYTES = 1024 * 1024
"""The limit on a body, both compressed and decompressed."""
_MAX_CODINGS = 2
_MAX_LAYERS = 6
_MAX_FORM_FIELDS = 32
# Percent-decoding is slow.
_MAX_FORM_CHARACTERS = 256 * 1024
_GZIP, _ZLIB, _RAW_DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
_PADDING = "\ufeff\x00 \t\r\n"
_CHARSET = re.compile(r"charset\s*=\s*\"?'?([\w.:-]{1,40})", re.IGNORECASE)
# Python's own list includes codecs that aren't character sets, and slow ones.
_CHARSETS = {
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "shift-jis": "cp932",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
    "iso-8859-1": "cp1252",
    "windows-1252": "cp1252",
    "iso-8859-15": "iso8859-15",
    "windows-1251": "cp1251",
    "koi8-r": "koi8-r",
}
# For bodies that aren't UTF-8 and don't declare a character set. The vendor is Chinese.
_UNDECLARED_CHARSETS = ("gb18030", "cp1252", "latin-1")
_FORM_START = re.compile(r"[\w.\[\]-]{1,64}=")
_PART_NAME = re.compile(r'\bname="([^"\r\n]{1,64})"')
_REPORT_KEYS = {"code", "data", "taskId", "successFlag"}


def unpack(raw: bytes, content_encoding: str = "") -> bytes | None:
    """Decompress gzip and deflate, declared or not.

    Returns None if the result exceeds `MAX_BODY_BYTES`. Returns an uncompressed body unchanged, whatever
    `content_encoding` says.
    """
    for _ in range(_MAX_CODINGS):
        plain = _inflate(raw, content_encoding)
        if plain is None:
            return raw
        if len(plain) > MAX_BODY_BYTES:
            return None
        raw = plain
    return raw


def _inflate(raw: bytes, content_encoding: str) -> bytes | None:
    """Decompress one coding; None if the body is not compressed.

    Stops one byte past the limit.
    """
    if raw[:2] == _GZIP_MAGIC:
        return _decompress(raw, _GZIP)
    # A zlib header has method 8 and is a multiple of 31.
    if len(raw) > 1 and raw[0] & 0x0F == zlib.DEFLATED and int.from_bytes(raw[:2], "big") % 31 == 0:
        return _decompress(raw, _ZLIB, is_whole=True)
    if "deflate" in content_encoding.lower():
        return _decompress(raw, _RAW_DEFLATE, is_whole=True)
    return None


def _decompress(raw: bytes, wbits: int, *, is_whole: bool = False) -> bytes | None:
    """Decompress a stream; None if it is invalid.

    Text can look like a stream. With `is_whole`, the stream must end exactly where the body ends.
    """
    stream = zlib.decompressobj(wbits)
    try:
        plain = stream.decompress(raw, MAX_BODY_BYTES + 1)
    except zlib.error:
        return None
    is_cut = len(plain) > MAX_BODY_BYTES
    return plain if is_cut or not is_whole or (stream.eof and not stream.unused_data) else None


def parse_object(raw: bytes | str, content_type: str = "") -> dict[str, Any] | None:
    """Parse a JSON object, even a wrapped one.

    It may be in a list of one, a JSON string or a form field.
    """
    for text in _texts(raw, content_type) if isinstance(raw, bytes) else (raw,):
        found = _unwrap(parse_json(text))
        if found is None:
            found = _read_form(text)
        if found is not None:
            return found
    return None


def object_in(value: object) -> dict[str, Any]:
    """Unwrap an object from JSON strings and lists of one.

    Returns an empty object if there is none.
    """
    return _unwrap(value) or {}


def parse_json(text: str) -> Any:
    """Parse JSON, ignoring surrounding BOMs and NULs; None if invalid.

    Extreme nesting is invalid, too.
    """
    try:
        return json.loads(text.strip(_PADDING))
    except (ValueError, RecursionError):
        return None


def _unwrap(value: object) -> dict[str, Any] | None:
    for _ in range(_MAX_LAYERS):
        match value:
            case dict():
                return value
            case [only]:
                value = only
            case str():
                value = parse_json(value)
            case _:
                return None
    return None


def _texts(raw: bytes, content_type: str) -> Iterator[str]:
    """Decode a body by each plausible character set, likeliest first."""
    declared = _CHARSET.search(content_type[:256])
    name = _CHARSETS.get(declared[1].lower().replace("_", "-")) if declared else None
    charsets = (json.detect_encoding(raw), "utf-8", *((name,) if name else ()), *_UNDECLARED_CHARSETS)
    for charset in dict.fromkeys(charsets):
        try:
            text = raw.decode(charset, "surrogatepass" if charset.startswith("utf") else "strict")
        except UnicodeDecodeError:
            continue
        yield text
        if charset == "utf-8":
            return  # Text in another character set is not valid UTF-8 by chance.


def _read_form(text: str) -> dict[str, Any] | None:
    """Read an object in a form field, or the fields."""
    text = text.strip(_PADDING)
    if len(text) > _MAX_FORM_CHARACTERS:
        return None
    if text.startswith("--"):
        fields = _multipart_fields(text)
    elif _FORM_START.match(text):
        fields = _urlencoded_fields(text)
    else:
        return None
    if fields.keys() & _REPORT_KEYS and len(fields) > 1:
        return dict(fields)
    return next((found for value in fields.values() if (found := _unwrap(value)) is not None), None)


def _urlencoded_fields(text: str) -> dict[str, str]:
    name, _, rest = text.partition("=")
    if rest.startswith(("{", "[", '"')):
        return {name: rest}  # JSON without percent-encoding
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_MAX_FORM_FIELDS))
    except ValueError:
        return {}


def _multipart_fields(text: str) -> dict[str, str]:
    text = text.replace("\r\n", "\n")
    boundary = text.partition("\n")[0]
    fields: dict[str, str] = {}
    for part in text.removeprefix(boundary).split(f"\n{boundary}", _MAX_FORM_FIELDS):
        head, blank_line, content = part.partition("\n\n")
        name = _PART_NAME.search(head[:1024])
        if blank_line and name:
            fields[name[1]] = content.strip()
    return fields
