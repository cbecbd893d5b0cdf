"""Bodies with all codings, charsets and wrappings seen so far."""

import gzip
import json
import time
import tracemalloc
import zlib
from typing import Any
from urllib.parse import urlencode

import pytest

from app.upstream.bodies import MAX_BODY_BYTES, parse_object, unpack
from tests.support.clients.callbacks import RECEIVED, URL, answer, sources
from tests.support.servers.served import Served
from tests.support.servers.vendor import Reply, success_a

CHINESE = "图片内容违规"
BODY = {"code": 501, "msg": CHINESE, "data": {"taskId": "up"}}
TEXT = json.dumps(BODY, ensure_ascii=False)
RAW = TEXT.encode()


def raw_deflate(plain: bytes) -> bytes:
    return zlib.compress(plain, wbits=-zlib.MAX_WBITS)


def multipart(text: str) -> bytes:
    head = '--x1\r\nContent-Disposition: form-data; name="data"\r\nContent-Type: application/json\r\n\r\n'
    return f"{head}{text}\r\n--x1--\r\n".encode()


CODINGS = {
    "plain": (RAW, ""),
    "gzip, undeclared": (gzip.compress(RAW), ""),
    "gzip": (gzip.compress(RAW), "gzip"),
    "gzip twice": (gzip.compress(gzip.compress(RAW)), "gzip, gzip"),
    "gzip without its checksum": (gzip.compress(RAW)[:-8], "gzip"),
    "zlib, undeclared": (zlib.compress(RAW), ""),
    "zlib": (zlib.compress(RAW), "deflate"),
    "raw deflate": (raw_deflate(RAW), "deflate"),
    "labeled gzip": (RAW, "gzip"),
    "labeled deflate": (RAW, "deflate"),
    "labeled aws-chunked": (RAW, "aws-chunked"),
    "labeled br": (RAW, "br"),
}


@pytest.mark.parametrize("name", CODINGS)
def test_codings_are_undone_and_labels_ignored(name: str) -> None:
    raw, declared = CODINGS[name]
    assert unpack(raw, declared) == RAW


@pytest.mark.parametrize("raw", [b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00garbage", b"x\x9cgarbage", b"x", b"\x78\x01"])
def test_bodies_that_only_look_compressed_are_unchanged(raw: bytes) -> None:
    assert unpack(raw, "deflate") in {raw, b""}


@pytest.mark.parametrize(
    "compress", [gzip.compress, zlib.compress, raw_deflate, lambda b: gzip.compress(gzip.compress(b))]
)
def test_a_bomb_is_cut_at_the_limit(compress: Any) -> None:
    bomb = compress(bytes(50 * MAX_BODY_BYTES))
    tracemalloc.start()
    began = time.thread_time()
    assert unpack(bomb, "deflate") is None
    assert time.thread_time() - began < 3
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_BODY_BYTES
    tracemalloc.stop()


def test_the_limit_is_exact() -> None:
    assert unpack(gzip.compress(bytes(MAX_BODY_BYTES))) == bytes(MAX_BODY_BYTES)
    assert unpack(gzip.compress(bytes(MAX_BODY_BYTES + 1))) is None


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (RAW, "application/json"),
        (RAW, "application/json; charset=latin-1"),
        (RAW, "application/json; charset=zlib"),
        (TEXT.encode("utf-8-sig"), ""),
        (TEXT.encode("utf-16"), ""),
        (TEXT.encode("utf-16-le"), ""),
        (TEXT.encode("utf-16-be"), "application/json; charset=UTF-16BE"),
        (TEXT.encode("utf-32"), ""),
        (TEXT.encode("gbk"), "application/json; charset=GBK"),
        (TEXT.encode("gbk"), "application/json; charset=utf-8"),
        (TEXT.encode("gb18030"), ""),
        (RAW + b"\x00", ""),
        (b"\x00" + RAW + b"\x00\x00\r\n", ""),
        (TEXT.encode("utf-16-le") + b"\x00\x00", ""),
        (json.dumps(TEXT).encode(), ""),
        (json.dumps(json.dumps([TEXT])).encode(), ""),
        (json.dumps([BODY]).encode(), ""),
        (json.dumps([[BODY]]).encode(), ""),
        (urlencode({"data": TEXT}).encode(), "application/x-www-form-urlencoded"),
        (urlencode({"sign": "1", "payload": TEXT}).encode(), ""),
        (urlencode({"code": "501", "msg": CHINESE, "data": '{"taskId": "up"}'}).encode(), ""),
        (b"data=" + RAW, ""),
        (multipart(TEXT), "multipart/form-data; boundary=x1"),
        (multipart(TEXT), ""),
    ],
)
def test_bodies_are_read_in_any_charset_and_wrapping(raw: bytes, content_type: str) -> None:
    parsed = parse_object(raw, content_type)
    assert parsed is not None
    assert (str(parsed["code"]), parsed["msg"]) == ("501", CHINESE)


def test_a_declared_charset_is_used_where_it_is_not_utf_8() -> None:
    raw = '{"msg": "contenu refusé: été à Cádiz"}'.encode("latin-1")
    assert parse_object(raw, "application/json; charset=ISO-8859-1") == {"msg": "contenu refusé: été à Cádiz"}
    raw = '{"msg": "не удалось"}'.encode("koi8-r")
    assert parse_object(raw, 'application/json; charset="koi8-r"') == {"msg": "не удалось"}


@pytest.mark.parametrize(
    "raw",
    [
        b"[1, 2]",
        b'[{"code": 200}, {"code": 200}]',
        json.dumps(["["] * 3).encode(),
        b'"' * 1000,
        b"a=b&c=d",
        b"--\r\n\r\n--",
        b"--x\r\nname=\r\n\r\n{}",
        b"&" * 1000,
        b"code=1" + b"&a=1" * 1000,
        b"<html><title>502</title></html>",
    ],
)
def test_other_bodies_contain_no_object(raw: bytes) -> None:
    assert parse_object(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * MAX_BODY_BYTES,
        b'{"a":' * (MAX_BODY_BYTES // 5),
        b'"\\' * (MAX_BODY_BYTES // 2),
        b"a=" + b"%" * (MAX_BODY_BYTES // 4 - 2),
        b"a=" + b"%" * MAX_BODY_BYTES,
        b"a=b&" * (MAX_BODY_BYTES // 4),
        b"--\n" * (MAX_BODY_BYTES // 3),
        b'--a\nname="b"\n\n' * (MAX_BODY_BYTES // 14),
        b"\xff" * MAX_BODY_BYTES,
        b"\x81\x30" * (MAX_BODY_BYTES // 2),
        b"\x00" * MAX_BODY_BYTES,
        b" " * MAX_BODY_BYTES,
    ],
)
def test_a_hostile_body_takes_little_time(raw: bytes) -> None:
    began = time.thread_time()
    parse_object(raw)
    assert time.thread_time() - began < 3


# --- over HTTP


@pytest.mark.parametrize(
    ("encode", "headers"),
    [
        (gzip.compress, {"Content-Encoding": "gzip"}),
        (gzip.compress, {}),
        (raw_deflate, {"Content-Encoding": "deflate"}),
        (lambda plain: plain, {"Content-Encoding": "gzip"}),
        (lambda plain: json.dumps(plain.decode()).encode("utf-16"), {}),
        (
            lambda plain: urlencode({"data": plain.decode()}).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
        ),
        (lambda plain: multipart(plain.decode()), {"Content-Type": "multipart/form-data; boundary=x1"}),
    ],
)
def test_callbacks_are_decoded(on_sqlite: Served, encode: Any, headers: dict[str, str]) -> None:
    task, submit = on_sqlite.processing()
    body = encode(json.dumps(success_a(task["upstream_task_id"])).encode())
    response = on_sqlite.client.post(
        submit.callback_url, content=body, headers={"Content-Type": "application/json", **headers}
    )
    assert answer(response) == (200, RECEIVED)
    assert sources(on_sqlite.client.task(task["id"])) == [URL]


def test_a_declared_charset_of_a_callback_counts(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    body = {"code": 501, "msg": "не удалось", "data": {"taskId": task["upstream_task_id"]}}
    content = json.dumps(body, ensure_ascii=False).encode("koi8-r")
    headers = {"Content-Type": "application/json; charset=koi8-r"}
    assert answer(on_sqlite.client.post(submit.callback_url, content=content, headers=headers)) == (200, RECEIVED)
    assert on_sqlite.client.task(task["id"])["error"]["message"] == "не удалось"


def test_a_compressed_callback_is_stored_decompressed_and_without_our_key(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    plain = json.dumps({"note": "your key is upstream-key"})
    for body in (gzip.compress(plain.encode()), plain.encode("utf-16-le"), plain.encode("utf-16-be")):
        assert on_sqlite.call_back(submit, body).status_code == 422
        kept = on_sqlite.kept(task["id"])[0]["body"].replace("\x00", "")
        assert kept == plain.replace("upstream-key", "***")


def test_a_bomb_is_rejected_and_stored_unchanged(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    bomb = gzip.compress(bytes(20 * MAX_BODY_BYTES))
    response = on_sqlite.call_back(submit, bomb)
    assert answer(response) == (422, "unreadable_callback")
    assert "decompressed" in response.json()["detail"]
    on_sqlite.vendor.wait_for_polls(1, task["upstream_task_id"])
    assert len(on_sqlite.kept(task["id"])[0]["body"]) >= len(bomb)


@pytest.mark.parametrize(
    ("encode", "coding"),
    [(gzip.compress, "gzip"), (raw_deflate, "deflate"), (lambda plain: plain, "gzip"), (lambda plain: plain, "utf-8")],
)
def test_replies_of_the_upstream_are_decoded(on_sqlite: Served, encode: Any, coding: str) -> None:
    plain = json.dumps({"code": 200, "data": {"taskId": f"id-{coding}-{len(encode(b''))}"}}).encode()
    on_sqlite.vendor.on_submit = lambda _: Reply(encode(plain), headers={"Content-Encoding": coding})
    task, _ = on_sqlite.processing()
    assert task["upstream_task_id"] == f"id-{coding}-{len(encode(b''))}"


def test_a_bomb_in_a_reply_is_an_unknown_outcome(on_sqlite: Served) -> None:
    bomb = gzip.compress(bytes(20 * MAX_BODY_BYTES))
    on_sqlite.vendor.on_submit = lambda _: Reply(bomb, headers={"Content-Encoding": "gzip"})
    task = on_sqlite.client.submit()
    on_sqlite.submit_of(task["id"])
    on_sqlite.calm()
    on_sqlite.processing()
    assert on_sqlite.client.task(task["id"])["status"] == "submitting"
