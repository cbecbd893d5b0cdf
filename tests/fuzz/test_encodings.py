"""Reports are read alike however they are encoded, and no bytes break the reader."""

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.verdict import Failed, Report, Succeeded
from app.upstream.bodies import MAX_BODY_BYTES, parse_object, unpack
from app.upstream.content_policy import is_content_refusal
from app.upstream.image_urls import find_image_urls
from app.upstream.reasons import find_reason
from app.upstream.reports import read_callback, read_record_info
from tests.fuzz.test_callbacks import mutated, values, written

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda plain: plain,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, raw": lambda plain: zlib.compress(plain, wbits=-zlib.MAX_WBITS),
    "gzip, gzip": lambda plain: gzip.compress(gzip.compress(plain)),
    "a label": lambda plain: plain,
}
CHARSETS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def json_string(text: str) -> str:
    return json.dumps(text)


def list_of_one(text: str) -> str:
    return f"[{text}]"


def url_form(text: str) -> str:
    return f"sign=1&payload={quote_plus(text)}"


def multipart_form(text: str) -> str:
    return f'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{text}\r\n--b--\r\n'


@dataclass(frozen=True)
class Writing:
    """How a report is written."""

    layers: tuple[Any, ...]
    end: str
    form: Any
    charset: str
    coding: str

    def of(self, text: str) -> bytes:
        for layer in self.layers:
            text = layer(text)
        text += self.end
        if self.form is not None:
            text = self.form(text)
        return CODINGS[self.coding](text.encode(self.charset, "surrogatepass"))


writings = st.builds(
    Writing,
    layers=st.lists(st.sampled_from([json_string, list_of_one]), max_size=3).map(tuple),
    end=st.sampled_from(["", "", " \r\n", "\x00", "\n\x00\x00"]),
    form=st.sampled_from([None, None, None, url_form, multipart_form]),
    charset=st.sampled_from(CHARSETS),
    coding=st.sampled_from(list(CODINGS)),
)


def read(raw: bytes, coding: str = "") -> Report | None:
    plain = unpack(raw, coding)
    return None if plain is None else read_callback(plain)


@settings(max_examples=1000, derandomize=True, database=None, deadline=None)
@given(mutated(), writings, st.booleans())
def test_a_report_is_the_same_in_every_encoding(body: Any, writing: Writing, is_ascii: bool) -> None:
    # Lone surrogates can't be percent-encoded; escaped, they can.
    text = json.dumps(body, ensure_ascii=is_ascii or writing.form is not None)
    assert read(writing.of(text), writing.coding) == read_callback(text.encode("utf-8", "surrogatepass"))


def check(raw: bytes, coding: str = "", content_type: str = "") -> None:
    plain = unpack(raw, coding)
    assert plain is None or len(plain) <= max(MAX_BODY_BYTES, len(raw))
    report = read_callback(plain or b"", content_type)
    if isinstance(report, Succeeded):
        assert 1 <= len(report.image_urls) <= 16
        assert all(url.lower().startswith(("http://", "https://")) for url in report.image_urls)
    if isinstance(report, Failed):
        assert 1 <= len(report.error.message) <= 4000
        assert 1 <= len(report.error.upstream_code or "") <= 32
    read_record_info(parse_object(plain or b"", content_type) or {}, "up")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A report in some encoding, of which a piece is missing, repeated, or something else."""
    raw = draw(writings).of(json.dumps(draw(mutated())))
    start = draw(st.integers(0, len(raw)))
    end = draw(st.integers(start, min(len(raw), start + 20)))
    return raw[:start] + draw(st.binary(max_size=8) | st.just(raw[start:end] * 2)) + raw[end:]


@settings(max_examples=1000, derandomize=True, database=None, deadline=None)
@given(
    damaged() | written() | st.binary(max_size=200),
    st.sampled_from(["", "gzip", "deflate", "br", "gzip, deflate"]),
    st.sampled_from(
        ["", "charset=gbk", "charset=koi8-r", "charset=utf-16", "charset=punycode", "charset=", "charset=\x00"]
    ),
)
@example(b"\x1f\x8b", "", "")
@example(b"x\x9c", "deflate", "")
@example(b"--", "", "")
@example(b"=", "", "")
def test_no_bytes_break_the_reading(raw: bytes, coding: str, content_type: str) -> None:
    check(raw, coding, content_type)


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(st.dictionaries(st.sampled_from(["resultImageUrl", "images", "data", "response", "resultJson", "url"]), values))
def test_no_result_breaks_the_search_for_images(body: dict[str, Any]) -> None:
    for url in find_image_urls(body):
        url.encode()


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(st.dictionaries(st.sampled_from(["msg", "message", "error", "detail", "errorMessage", "loc"]), values))
def test_no_words_break_the_search_for_reasons(body: dict[str, Any]) -> None:
    reason = find_reason(body)
    assert len(reason) <= 4000
    reason.encode()
    is_content_refusal(reason)
