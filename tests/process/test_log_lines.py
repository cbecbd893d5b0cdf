"""Log lines: content, redaction and failures."""

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from app.domain.callback import CallbackTokens
from app.logging import bind_request_id, configure_logs

SECRET = "secret-4711"
FORMATS = ["json", "console", "terminal"]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def logged(log_format: str, *, file: io.StringIO | None = None, secrets: tuple[str, ...] = ()) -> Iterator[io.StringIO]:
    """Collect the lines of new loggers, then restore the configuration."""
    root = logging.getLogger()
    file = file or (Terminal() if log_format == "terminal" else io.StringIO())
    before = structlog.get_config(), root.handlers, root.level
    with redirect_stderr(file):
        configure_logs("json" if log_format == "json" else "console", "info", [SECRET, *secrets])
        try:
            yield file
        finally:
            structlog.configure(**before[0])
            root.handlers = before[1]
            root.setLevel(before[2])


@pytest.mark.parametrize("secret", ['with"quote', "with'both\"quotes", "back\\slash", "tab\tinside", "plain-secret"])
@pytest.mark.parametrize("log_format", FORMATS)
def test_a_secret_is_masked_however_it_is_escaped(secret: str, log_format: str) -> None:
    with logged(log_format, secrets=(secret,)) as file:
        for reason in (
            f"key {secret} is odd",
            ValueError(f"key {secret}"),
            [{"key": secret}],
            f"key {secret}".encode(),
        ):
            structlog.get_logger().info("said", reason=reason)
        logging.getLogger("theirs").warning("of %s and %r", secret, secret)
    lines = file.getvalue().splitlines()
    assert len(lines) == 5
    assert ["***" in line for line in lines] == [True] * 5
    assert secret not in file.getvalue()


TASK = "0196f0c0ffee7000800000000000abcd"
TOKEN = CallbackTokens(["s"]).sign(f"task_{TASK}")
MAC = TOKEN.partition("-")[2]


def encoded(text: str, sign: str = "%") -> str:
    return "".join(f"{sign}{byte:02x}" for byte in text.encode())


@pytest.mark.parametrize(
    "text",
    [
        f"/callbacks/nanobanana/{TOKEN}",
        f"//callbacks//nanobanana//{TOKEN}//",
        f"/CALLBACKS/NanoBanana/{TOKEN}?a=b",
        f"/callbacks%2Fnanobanana%2F{TOKEN}",
        f"/callbacks%252Fnanobanana%252F{TOKEN}",
        f"/callbacks/nanobanana/{TASK}%2d{MAC}",
        f"/callbacks/nanobanana/{encoded(TOKEN)}",
        f"/callbacks/nanobanana/{encoded(TOKEN, '%25').upper()}",
        f"/callbacks/nanobanana/{TASK.upper()}-{MAC}",
        f"/callbacks/nanobanana/{TOKEN}trailing",
        f"/callbacks/nanobanana/{TOKEN[:-3]}",
        f"/images/?next={TOKEN}",
        f"https://gateway.example/proxy/{TOKEN}",
        TOKEN,
    ],
)
@pytest.mark.parametrize("log_format", FORMATS)
def test_a_callbacks_token_is_masked_by_its_form(text: str, log_format: str) -> None:
    with logged(log_format) as file:
        for value in (text, {"referer": text}, text.encode(), httpx.InvalidURL(f"Invalid URL: {text!r}")):
            structlog.get_logger().info("request", path=value)
        try:
            httpx.Response(500, request=httpx.Request("POST", f"http://host/{text}")).raise_for_status()
        except httpx.HTTPStatusError:
            logging.getLogger("theirs").exception("of %s", text)
    assert file.getvalue().count("-***") >= 6
    for secret in (MAC, MAC[:20], encoded(MAC), encoded(MAC, "%25").upper()):
        assert secret not in file.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        f"task_{TASK}",
        f"{TASK}-1.png",
        f"img_{TASK}/task_{TASK}",
        f"00-{TASK}-b7ad6b7169203331-01",
        "6b0d4e2a-8c1f-4e7b-9a3d-2f5c8e1b7a90",
        f"{TASK}{TASK}",
        f"2026-11-27T23:04:01 a-very-long-name-of-something-with-dashes {TASK}",
        f"%E2%82%AC%20{TASK}%20and%20much%20more%20text%20behind",
    ],
)
@pytest.mark.parametrize("log_format", FORMATS)
def test_ordinary_ids_are_not_masked(text: str, log_format: str) -> None:
    with logged(log_format) as file:
        structlog.get_logger().info("request", path=text)
    assert text in file.getvalue()


@pytest.mark.parametrize("log_format", FORMATS)
def test_secrets_are_masked_in_tracebacks_and_their_causes(log_format: str) -> None:
    with logged(log_format) as file:
        try:
            try:
                fail()
            except ValueError as cause:
                raise RuntimeError(f"{SECRET} again") from cause
        except RuntimeError as error:
            structlog.get_logger().exception("first")
            structlog.get_logger().info("second", exc_info=error)
            logging.getLogger("theirs").exception("third")
    text = file.getvalue()
    assert text.count("Traceback (most recent call last)") == 6
    assert text.count("ValueError: key *** is odd") == 3
    assert text.count("RuntimeError: *** again") == 3
    assert SECRET not in text
    if log_format == "json":
        assert [json.loads(line)["event"] for line in text.splitlines()] == ["first", "second", "third"]


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_value_that_cannot_be_rendered_only_affects_its_line(log_format: str) -> None:
    with logged(log_format) as file:
        for value in (1, Unprintable(), "half a pair: \ud800", 3):
            structlog.get_logger().info("counted", value=value)
        logging.getLogger("theirs").warning("one %d", SECRET)
        logging.getLogger("theirs").warning("two %r", Unprintable())
    lines = file.getvalue().splitlines()
    assert ["counted" in line for line in lines] == [True] * 4 + [False] * 2
    assert ["RuntimeError" in line for line in lines] == [False, True, False, False, False, False]
    assert ["line_failed" in line for line in lines] == [False, True, False, False, True, True]
    assert SECRET not in file.getvalue()


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_value_can_log_while_its_line_is_rendered(log_format: str) -> None:
    class Talkative:
        def __repr__(self) -> str:
            structlog.get_logger("ours").info("inner")
            logging.getLogger("theirs").warning("inner")
            return "self"

    with logged(log_format) as file:
        structlog.get_logger("ours").info("outer", value=Talkative())
        logging.getLogger("theirs").warning("outer %r", Talkative())
    assert [("inner" in line, "outer" in line) for line in file.getvalue().splitlines()] == [
        (True, False),
        (True, False),
        (False, True),
    ] * 2


def test_an_object_can_log_while_a_line_is_written() -> None:
    """The garbage collector can finalize objects during a write."""

    class Collecting(io.StringIO):
        def write(self, text: str) -> int:
            if "outer" in text:
                structlog.get_logger("ours").info("inner")
                logging.getLogger("theirs").warning("inner")
            return super().write(text)

    with logged("console", file=Collecting()) as file:

        def log() -> None:
            structlog.get_logger("ours").info("outer")
            logging.getLogger("theirs").warning("outer")

        thread = threading.Thread(target=log, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert [line.split()[-1] for line in file.getvalue().splitlines()] == ["inner", "inner", "outer"] * 2


async def test_a_line_has_the_request_it_was_logged_in() -> None:
    async def serve(name: str) -> None:
        bind_request_id(name)
        structlog.get_logger("ours").info("ours")
        logging.getLogger("theirs").warning("theirs, of %s", name)
        await asyncio.to_thread(structlog.get_logger("ours").info, "thread")

    with logged("json") as file:
        for name in ("one", "two"):
            await asyncio.create_task(serve(name))
        structlog.get_logger("ours").warning("outside")
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["event"], line["level"], line.get("request_id")) for line in lines] == [
        ("ours", "info", "one"),
        ("theirs, of one", "warning", "one"),
        ("thread", "info", "one"),
        ("ours", "info", "two"),
        ("theirs, of two", "warning", "two"),
        ("thread", "info", "two"),
        ("outside", "warning", None),
    ]


@pytest.mark.parametrize("log_format", FORMATS)
def test_fields_levels_and_times_are_in_each_line(log_format: str) -> None:
    with logged(log_format) as file:
        structlog.get_logger("ours").bind(part="x").debug("too quiet")
        structlog.get_logger("ours").bind(part="x").warning("said", password="hidden", reason="two words", count=3)
        logging.getLogger("httpx").info("too quiet")
    (line,) = file.getvalue().splitlines()
    assert "hidden" not in line
    if log_format == "json":
        parsed: dict[str, Any] = json.loads(line)
        assert parsed.pop("timestamp").endswith("Z")
        assert parsed == {
            "level": "warning",
            "event": "said",
            "part": "x",
            "password": "***",
            "reason": "two words",
            "count": 3,
        }
    elif log_format == "console":
        assert (
            line.split(maxsplit=1)[1] == "[warning ] said             part=x password='***' reason='two words' count=3"
        )
    else:
        assert "\033[33m" in line
        assert "'two words'" in line


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_event_is_one_line_without_control_characters(log_format: str) -> None:
    evil = "first\nsecond\r\x1b[2J\x85\u2028end"
    with logged(log_format) as file:
        structlog.get_logger("ours").info("said", value=evil, several=[evil])
        if log_format != "terminal":
            logging.getLogger("theirs").warning(evil)
    lines = file.getvalue().splitlines() if log_format != "json" else file.getvalue().split("\n")[:-1]
    assert len(lines) == (1 if log_format == "terminal" else 2)
    assert "\x1b[2J" not in file.getvalue()


def test_values_that_are_not_json_are_logged_as_repr() -> None:
    where = Path("somewhere")
    with logged("json") as file:
        structlog.get_logger("ours").info(
            "said", body=b"the key", where=where, several=["ä", 1, b"x"], nothing=None, half="\ud800"
        )
    line = json.loads(file.getvalue())
    assert (line["body"], line["where"]) == ("b'the key'", repr(where))
    assert (line["several"], line["half"]) == (["ä", 1, "b'x'"], "\ud800")
    assert "nothing" not in line
    assert "ä" in file.getvalue()


def fail() -> None:
    raise ValueError(f"key {SECRET} is odd")
