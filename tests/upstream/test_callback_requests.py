"""Callbacks on the wire: framing, chunks and altered paths."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.domain.callback import CallbackTokens
from tests.support.clients.raw_connection import RawConnection, RawResponse, request
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.served import Served
from tests.support.servers.vendor import Submit, Vendor, success_a
from tests.support.waiting import until

LIMIT = 1024 * 1024
AT_ONCE = 64 * 1024
"""The server reads bytes beyond this only on demand."""
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture
def line(on_sqlite: Served) -> Iterator[RawConnection]:
    with RawConnection(on_sqlite.gateway.settings.port) as line:
        yield line


def path_of(submit: Submit) -> str:
    return urlsplit(submit.callback_url).path


def verdict(task: dict[str, Any], size: int = 0) -> bytes:
    return json.dumps(success_a(task["upstream_task_id"])).encode().ljust(size)


def announced(path: str, body: bytes, method: str = "POST", headers: bytes = JSON) -> bytes:
    return request(path, method=method, headers=headers + b"Content-Length: %d\r\n" % len(body)) + body


def chunked(path: str, body: bytes, method: str = "POST", headers: bytes = JSON) -> bytes:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return request(path, method=method, headers=headers + b"Transfer-Encoding: chunked\r\n") + chunks


def content_of(answer: RawResponse) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return an answer without its date and request id."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    body = json.loads(answer.body or b"{}")
    assert body.pop("request_id", answer.headers["x-request-id"]) == answer.headers["x-request-id"]
    return answer.status, headers, body


def word(answer: RawResponse) -> tuple[int, str]:
    _, _, body = content_of(answer)
    return answer.status, body["status"] if answer.status == 200 else body["code"]


def test_a_wrong_address_is_rejected_before_the_body_arrives(on_sqlite: Served) -> None:
    with RawConnection(on_sqlite.gateway.settings.port) as line:
        line.send(b"POST /callbacks/nanobanana/nonsense HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{")
        assert line.answer().problem == (404, "unknown_callback")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (verdict, (200, "received")),
        (lambda task: verdict(task, AT_ONCE), (200, "received")),
        (lambda task: verdict(task, AT_ONCE + 1), (200, "received")),
        (lambda task: verdict(task, LIMIT), (200, "received")),
        (lambda task: verdict(task, LIMIT + 1), (413, "body_too_large")),
        (lambda _: json.dumps(success_a("0" * 32)).encode(), (409, "task_mismatch")),
        (lambda _: b"garbage", (422, "unreadable_callback")),
        (lambda _: b"\xff\x00", (422, "unreadable_callback")),
        (lambda _: b"", (422, "unreadable_callback")),
    ],
)
def test_bodies_get_the_same_response_either_way(
    on_sqlite: Served, line: RawConnection, make: Callable[[dict[str, Any]], bytes], expected: tuple[int, str]
) -> None:
    answers = []
    for send in (announced, chunked):
        task, submit = on_sqlite.processing()
        body = make(task)
        line.send(send(path_of(submit), body))
        answers.append(line.answer())
        kept = on_sqlite.kept(task["id"])
        assert [one["status"] for one in kept] == ([] if expected[0] == 413 else [expected[0]])
    assert [word(answer) for answer in answers] == [expected] * 2
    assert content_of(answers[0]) == content_of(answers[1])


def test_duplicates_get_the_same_response_either_way(on_sqlite: Served, line: RawConnection) -> None:
    task, submit = on_sqlite.processing()
    assert on_sqlite.call_back(submit, verdict(task)).json() == {"status": "received"}
    answers = []
    for send in (announced, chunked):
        line.send(send(path_of(submit), verdict(task)))
        answers.append(line.answer())
    assert word(answers[0]) == (200, "duplicate")
    assert content_of(answers[0]) == content_of(answers[1])


@pytest.mark.parametrize(
    ("bend", "status"),
    [
        (lambda path: path[:-1], 404),
        (lambda path: path[:-1] + ("A" if path[-1] != "A" else "E"), 404),
        (lambda path: path.rpartition("/")[0] + "/nonsense", 404),
        (lambda path: path.rpartition("/")[0] + "/" + CallbackTokens(["test-secret"]).sign("task_" + "0" * 32), 404),
        (lambda path: path.rpartition("/")[0] + "/" + CallbackTokens(["another"]).sign("task_" + "0" * 32), 404),
        (lambda path: path + "%00", 404),
        (lambda path: path + "/", 404),
        (lambda path: path[:-1] + f"%{ord(path[-1]):x}", 200),
        (lambda path: path + "?a=b", 200),
        (lambda path: path + "?", 200),
    ],
)
def test_paths_get_the_same_response_either_way(
    on_sqlite: Served, line: RawConnection, bend: Callable[[str], str], status: int
) -> None:
    task, submit = on_sqlite.processing()
    line.send(announced(bend(path_of(submit)), verdict(task)))
    first = line.answer()
    if status == 200:
        task, submit = on_sqlite.processing()
    line.send(chunked(bend(path_of(submit)), verdict(task)))
    assert content_of(first) == content_of(line.answer())
    assert first.status == status
    assert on_sqlite.client.task(task["id"])["status"] == ("succeeded" if status == 200 else "processing")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_get_the_same_response_either_way(on_sqlite: Served, line: RawConnection, method: str) -> None:
    _, submit = on_sqlite.processing()
    answers = []
    for send in (announced, chunked):
        line.send(send(path_of(submit), b"{}", method))
        answers.append(line.answer(without_body=method == "HEAD"))
    assert content_of(answers[0]) == content_of(answers[1])
    assert (answers[0].status, answers[0].headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("send", [announced, chunked])
def test_a_valid_request_id_is_kept(on_sqlite: Served, line: RawConnection, send: Callable[..., bytes]) -> None:
    _, submit = on_sqlite.processing()
    ids = [b"my-request:1", b"a" * 128, b"a" * 129, b"a b", b"\xff", b""]
    got = []
    for sent in ids:
        line.send(send(path_of(submit), b"garbage", headers=b"X-Request-ID: %b\r\n" % sent))
        answer = line.answer()
        assert answer.problem == (422, "unreadable_callback")
        got.append(answer.headers["x-request-id"].encode())
    assert got[:2] == ids[:2]
    assert all(len(one) == 32 and one.isalnum() for one in got[2:])
    assert len(set(got)) == len(ids)


@pytest.mark.parametrize("send", [announced, chunked])
def test_callbacks_can_arrive_in_pieces(on_sqlite: Served, line: RawConnection, send: Callable[..., bytes]) -> None:
    task, submit = on_sqlite.processing()
    head, _, rest = send(path_of(submit), verdict(task)).partition(b"\r\n\r\n")
    line.send(head + b"\r\n\r\n")
    for byte in rest:
        line.send(bytes([byte]))
    assert word(line.answer()) == (200, "received")
    assert on_sqlite.client.task(task["id"])["status"] == "succeeded"


def test_a_body_that_expects_100_continue_gets_it(on_sqlite: Served, line: RawConnection) -> None:
    task, submit = on_sqlite.processing()
    head, _, body = announced(path_of(submit), verdict(task), headers=JSON + b"Expect: 100-continue\r\n").partition(
        b"\r\n\r\n"
    )
    line.send(head + b"\r\n\r\n")
    assert line.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(body)
    assert word(line.answer()) == (200, "received")


def test_a_result_is_committed_even_if_the_client_disconnects(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    with closing(sqlite3.connect(urlsplit(on_sqlite.database_url).path)) as database:
        database.execute("BEGIN IMMEDIATE")  # holds up the commit
        with RawConnection(on_sqlite.gateway.settings.port) as line:
            line.send(announced(path_of(submit), verdict(task)))
            until(lambda: line.address in on_sqlite.gateway.clients, what="the callback")
        until(lambda: line.address not in on_sqlite.gateway.clients, what="the client having left")
        database.rollback()
    on_sqlite.client.wait_for(task["id"], "succeeded")


def test_rejected_callbacks_are_logged_without_their_address(tmp_path: Path, vendor: Vendor) -> None:
    settings = {"LOG_FORMAT": "json", "NANOBANANA_API_KEY": "upstream-key", "NANOBANANA_BASE_URL": vendor.url}
    with GatewayProcess(tmp_path, settings) as gateway:
        task = gateway.client.submit()
        path = path_of(vendor.wait_for_submits(1)[0])
        gateway.client.wait_for(task["id"], "processing")
        with RawConnection(gateway.port) as line:
            for name, send in ((b"length", announced), (b"chunks", chunked)):
                for target in (path, path[:-1]):
                    line.send(send(target, b"garbage", headers=b"X-Request-ID: by-%b\r\n" % name))
                    assert line.answer().headers["x-request-id"] == f"by-{name.decode()}"
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    by_length, by_chunks = (
        [
            {key: value for key, value in line.items() if key not in {"timestamp", "milliseconds", "request_id"}}
            for line in lines
            if line.get("request_id") == request_id
        ]
        for request_id in ("by-length", "by-chunks")
    )
    assert by_length == by_chunks
    (refused, unknown) = [line for line in by_length if line["event"] == "request"]
    assert (refused["status"], unknown["status"]) == (422, 404)
    assert refused["client"] == unknown["client"] == "127.0.0.1"
    assert refused["method"] == "POST"
    for secret in (path.rpartition("/")[2], path[:-1].rpartition("/")[2]):
        assert secret not in gateway.log
    assert [line["task_id"] for line in by_length if line["event"] == "callback"] == [task["id"]]


def test_every_content_length_gets_a_response(line: RawConnection) -> None:
    zeros = b"Content-Length: " + b"0" * 5000 + b"2\r\n"
    line.send(request("/callbacks/nanobanana/nonsense", method="POST", headers=zeros) + b"{}")
    assert line.answer().problem == (404, "unknown_callback")
