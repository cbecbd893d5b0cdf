"""Callback tokens: exactly those that we signed are valid."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.callback import CallbackTokens

TASK = "task_0196f0c0ffee7000800000000000abcd"
TOKENS = CallbackTokens(["first"])
TOKEN = TOKENS.sign(TASK)


def test_a_token_names_its_task() -> None:
    assert TOKENS.verify(TOKEN) == TASK
    assert TASK.removeprefix("task_") in TOKEN


@pytest.mark.parametrize("position", range(len(TOKEN)))
def test_no_character_can_be_changed(position: int) -> None:
    for other in string.ascii_letters + string.digits + "-_=/ ":
        if other != TOKEN[position]:
            assert TOKENS.verify(TOKEN[:position] + other + TOKEN[position + 1 :]) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "-",
        TOKEN[:-1],
        TOKEN + "A",
        TOKEN + "=",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN.upper(),
        f"task_{TOKEN}",
        "é" * 60,
    ],
)
def test_similar_texts_are_not_tokens(token: str) -> None:
    assert TOKENS.verify(token) is None


@given(st.text())
def test_no_text_breaks_the_check(token: str) -> None:
    assert TOKENS.verify(token) is None


def test_a_token_of_another_task_or_secret_is_rejected() -> None:
    mac = TOKENS.sign("task_" + "0" * 32).partition("-")[2]
    assert TOKENS.verify(f"{TASK.removeprefix('task_')}-{mac}") is None
    assert CallbackTokens(["second"]).verify(TOKEN) is None


def test_secrets_rotate() -> None:
    rotated = CallbackTokens(["second", "first"])
    assert rotated.verify(TOKEN) == TASK
    assert rotated.sign(TASK) == CallbackTokens(["second"]).sign(TASK)
    assert TOKENS.verify(rotated.sign(TASK)) is None


def test_a_token_needs_no_escaping_in_a_path() -> None:
    assert set(TOKEN) <= set(string.ascii_letters + string.digits + "-_")
