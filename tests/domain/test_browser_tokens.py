"""Browser tokens: exactly those that we signed are valid."""

import base64
import hashlib
import hmac

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.browser_token import TOKEN_PREFIX, BrowserToken, BrowserTokens, is_subject
from app.domain.callback import CallbackTokens

TOKEN = BrowserToken("tok_" + "0" * 32, "default", "user-7", "key_" + "1" * 32, 20, 1_800_000_000_000)
OURS = BrowserTokens(["first", "second"])


@given(st.text(min_size=1, max_size=255).filter(is_subject), st.booleans())
def test_a_signed_token_is_read_unchanged(subject: str, has_key: bool) -> None:
    token = msgspec.structs.replace(TOKEN, subject=subject, key_id=TOKEN.key_id if has_key else None)
    assert OURS.verify(OURS.sign(token)) == token


def test_the_longest_names_fit() -> None:
    for character in ("\N{BANANA}", '"', "\\"):
        token = msgspec.structs.replace(TOKEN, subject=character * 255, project=character * 64)
        assert OURS.verify(OURS.sign(token)) == token


def test_secrets_rotate() -> None:
    assert BrowserTokens(["new", "first"]).verify(BrowserTokens(["first"]).sign(TOKEN)) == TOKEN
    assert BrowserTokens(["new"]).verify(BrowserTokens(["first"]).sign(TOKEN)) is None
    assert BrowserTokens(["first"]).verify(OURS.sign(TOKEN)) == TOKEN


def test_no_character_can_be_changed() -> None:
    text = OURS.sign(TOKEN)
    for place, character in enumerate(text):
        for other in {"A", "B", "-", ".", chr(ord(character) ^ 1)} - {character}:
            assert OURS.verify(text[:place] + other + text[place + 1 :]) is None
        assert OURS.verify(text[:place] + text[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", TOKEN_PREFIX, "nbt_.", "nbt_e30.", "nbt_\N{BANANA}.x", "nbt_" + "A" * 100_000])
def test_other_texts_are_rejected(text: str) -> None:
    assert OURS.verify(text) is None


def test_other_signatures_with_the_secret_are_not_valid_tokens() -> None:
    """The key is derived, so callback signatures are not valid."""
    content = base64.urlsafe_b64encode(msgspec.json.encode(TOKEN)).rstrip(b"=").decode()
    digest = hmac.digest(b"first", content.encode(), hashlib.sha256)
    forged = f"{TOKEN_PREFIX}{content}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    assert len(forged) == len(OURS.sign(TOKEN))
    assert OURS.verify(forged) is None
    assert OURS.verify(CallbackTokens(["first"]).sign("task_" + "0" * 32)) is None


def test_signed_content_of_another_version_is_rejected() -> None:
    class Later(msgspec.Struct, array_like=True):
        id: str
        project: list[str]

    assert OURS.verify(OURS.sign(Later("tok_1", ["default"]))) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("user-7", True),
        ("Zoë 你好", True),
        ("s" * 255, True),
        ("s" * 256, False),
        ("", False),
        ("  ", False),
        ("a\nb", False),
        ("a\x00b", False),
        ("a\x7fb", False),
        ("a\u202eb", False),
        ("a\ud800b", False),
    ],
)
def test_subjects_are_printable(text: str, good: bool) -> None:
    assert is_subject(text) is good
