"""Inline images in requests."""

import base64
import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.data_uri import BadDataUri, decode, is_data_uri

CONTENT = random.Random(1).randbytes(2 * 1024 * 1024 + 1)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "head",
    [
        "data:image/png;base64,",
        "DATA:image/JPEG;Base64,",
        "data:;base64,",
        "data:image/png;charset=x;name=a.png;base64,",
    ],
)
def test_content_is_read(head: str) -> None:
    assert b"".join(decode(head + encoded(CONTENT))) == CONTENT


def test_content_is_decoded_in_chunks() -> None:
    assert max(len(part) for part in decode("data:;base64," + encoded(CONTENT))) <= 1024 * 1024


@given(content=st.binary(max_size=50))
def test_padding_is_optional_and_characters_may_be_percent_encoded(content: bytes) -> None:
    text = encoded(content)
    for written in (text, text.rstrip("="), quote(text, safe=""), quote(text.rstrip("="), safe="")):
        assert b"".join(decode(f"data:image/png;base64,{written}")) == content


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:,abc",
        "data:image/png,%89PNG",
        "data:image/png;base64",
        "data:text/html;base64,QUJD",
        "data:image/svg xml;base64,QUJD",
        "data:image/png;base64;base64,QUJD",
        "data:image/png;" + "a=b;" * 500 + "base64,QUJD",
    ],
)
def test_an_invalid_head_is_rejected(uri: str) -> None:
    assert is_data_uri(uri)
    with pytest.raises(BadDataUri, match="must be an http"):
        list(decode(uri))


@pytest.mark.parametrize(
    "text", ["A", "QUJD*", "QU JD", "QUJD\n", "Q=JD", "QUJD====QUJD", "QU%4", "QÜJD", "%ff%fe", "-_-_"]
)
def test_invalid_base64_is_rejected(text: str) -> None:
    with pytest.raises(BadDataUri, match="base64 can't be decoded"):
        list(decode(f"data:image/png;base64,{text}"))
