"""How events become lines, and when they are written."""

import asyncio
import io
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.logs import LineWriter, bind_request_id, configure_logs, render_colored, render_json, render_line
from app.redaction import Redactor


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def fail() -> None:
    raise ValueError("key secret-4711 is odd")


@contextmanager
def told(monkeypatch: pytest.MonkeyPatch, log_format: Any, level: str = "info") -> Iterator[io.StringIO]:
    """Collect what is told by newly made loggers, and leave everything as it was."""
    root, file = logging.getLogger(), io.StringIO()
    before = structlog.get_config(), root.handlers, root.level
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        configure_logs(log_format, level, ["secret-4711"])
        try:
            yield file
        finally:
            structlog.configure(**before[0])
            root.handlers = before[1]
            root.setLevel(before[2])


@pytest.mark.parametrize("secret", ['with"quote', "with'both\"quotes", "back\\slash", "tab\tinside", "plain-secret"])
def test_a_secret_is_blotted_out_however_a_renderer_spells_it(secret: str) -> None:
    redact = Redactor([secret])
    for render in (render_line, render_json):
        for reason in (f"key {secret} is odd", repr(ValueError(f"key {secret}"))):
            assert "***" in redact.clean(render("t", "info", "said", {"reason": reason}))


def test_a_log_that_cannot_be_written_costs_no_work() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            lines.tell("info", "told from a thread, as transactions on SQLite do", {})
        except BaseException as error:  # noqa: BLE001 -- it is what is tested
            failures.append(error)

    with suppress(OSError), Path("/dev/full").open("w", encoding="utf-8") as full:
        lines = LineWriter(full, render_line, Redactor([]))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert failures == []


@pytest.mark.parametrize("render", [render_line, render_json, render_colored])
def test_a_value_that_cannot_be_written_costs_its_line_alone(render: Any) -> None:
    file = io.StringIO()
    lines = LineWriter(file, render, Redactor([]))
    for value in (1, Unspeakable(), "half a pair: \ud800", 3):
        lines.tell("info", "counted", {"value": value})
    written = file.getvalue().splitlines()
    assert ["counted" in line for line in written] == [True] * 4
    assert ["RuntimeError" in line for line in written] == [False, True, False, False]


def test_a_value_may_tell_of_itself_while_its_line_is_made() -> None:
    class Talkative:
        def __repr__(self) -> str:
            lines.tell("warning", "I", {})
            return "self"

    file = io.StringIO()
    lines = LineWriter(file, render_line, Redactor([]))
    lines.tell("info", "counted", {"value": Talkative()})
    assert [line.split()[3:] for line in file.getvalue().splitlines()] == [["I"], ["counted", "value=self"]]


def test_no_line_is_lost_to_another_thread_that_writes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    lines = LineWriter(file, render_line, Redactor([]))

    def look_at_clock() -> int:
        lines.flush()
        return 0

    monkeypatch.setattr(time, "time_ns", look_at_clock)
    lines.tell("info", "first", {})
    assert file.getvalue().split()[-1] == "first"


def test_lines_of_libraries_take_no_lock_but_the_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is there none where the standard library expects one: from Python 3.13 on it would take that itself."""
    with told(monkeypatch, "console") as file:
        handler = logging.getLogger().handlers[0]
        assert handler.lock is not None
        with handler.lock:
            thread = threading.Thread(target=logging.getLogger("theirs").warning, args=["told"])
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
    assert file.getvalue().split()[-1] == "told"


async def test_lines_are_gathered_until_a_warning_and_stay_in_order() -> None:
    file = io.StringIO()
    lines = LineWriter(file, render_line, Redactor([]))
    lines.tell("info", "first", {})
    lines.tell("debug", "second", {})
    assert not file.getvalue()
    lines.tell("warning", "third", {})
    assert [line.split()[-1] for line in file.getvalue().splitlines()] == ["first", "second", "third"]


async def test_a_line_keeps_the_request_it_was_told_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(name: str) -> None:
        bind_request_id(name)
        structlog.get_logger("ours").info("ours")
        logging.getLogger("theirs").warning("theirs, of %s", name)

    with told(monkeypatch, "json") as file:
        await asyncio.gather(*(asyncio.create_task(serve(name)) for name in ("one", "two")))
        structlog.get_logger("ours").warning("outside")
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["event"], line.get("request_id")) for line in lines] == [
        ("ours", "one"),
        ("theirs, of one", "one"),
        ("ours", "two"),
        ("theirs, of two", "two"),
        ("outside", None),
    ]
    assert [line["level"] for line in lines] == ["info", "warning", "info", "warning", "warning"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_are_told_whoever_tells_them(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    with told(monkeypatch, log_format) as file:
        try:
            fail()
        except ValueError as error:
            structlog.get_logger("ours").exception("first")
            structlog.get_logger("ours").info("second", exc_info=error)
            logging.getLogger("theirs").exception("third")
        structlog.get_logger("ours").bind(part="x").debug("too quiet")
        structlog.get_logger("ours").bind(part="x").info("fourth", password="hidden", reason="two words")
    text = file.getvalue()
    assert text.count("Traceback (most recent call last)") == 3
    assert text.count("ValueError: key *** is odd") == 3
    assert "too quiet" not in text
    assert "hidden" not in text
    if log_format == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["event"] for line in lines] == ["first", "second", "third", "fourth"]
        assert {"part": "x", "password": "***", "reason": "two words"}.items() <= lines[3].items()
    else:
        assert "part=x password='***' reason='two words'" in text.splitlines()[-1]


def test_values_that_are_not_json_are_written_as_they_look() -> None:
    """What is to be blotted out must be found in them."""
    fields = {"body": b"the key", "where": Path("/tmp"), "several": ["a", 1], "nothing": None}  # noqa: S108 -- a name
    line = json.loads(render_json("now", "info", "event", fields))
    assert line["body"] == "b'the key'"
    assert line["where"] == repr(Path("/tmp"))  # noqa: S108 -- as above
    assert (line["several"], line["nothing"]) == (["a", 1], None)
