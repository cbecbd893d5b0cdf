"""Requests with random methods, paths, queries and headers."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.clients.raw_connection import RawConnection
from tests.support.servers.served import Served, serve

METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT PROPFIND QUERY get PRI BREW".split()
PIECES = [
    *"/ // /v1 /tasks /v1/tasks /events /callbacks /nanobanana /webhook-deliveries /webhook-secret /rotate".split(),
    *"/tokens /uploads /images /docs /openapi.json /healthz /readyz /metrics /api/v1 /cancel /redeliver".split(),
    *"%00 %ff %c0%af %2e%2e %2f %252e /.. /. ; : @ # * %0d%0a %ed%a0%80 %F0%9F%8D%8C % %zz ~ \\ | ' \" < {".split(),
    f"/task_{'0' * 32}",
    f"/whd_{'0' * 32}",
    "/task_" + "9" * 300,
]
NAMES = (
    "status type model limit cursor wait state task_id created_after created_before last_event_id access_token x"
).split()
HEADERS = (
    "Prefer Idempotency-Key Last-Event-ID Authorization Range If-None-Match X-Request-ID Expect Content-Type Cookie "
    "Accept-Encoding X-Forwarded-For X-Forwarded-Host Forwarded Access-Control-Request-Method Sec-Fetch-Site TE X-Y"
).split()
VALUES = ["", "0", "-1", "99999999999999999999", "null", "wait=1", "bytes=0-", "100-continue", "cross-site", "Bearer x"]

wild = st.one_of(
    st.sampled_from(VALUES), st.binary(max_size=20).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw))
)
queries = st.lists(st.tuples(st.sampled_from(NAMES), wild), max_size=3)
targets = st.tuples(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5), queries)
header_values = st.one_of(st.sampled_from([value.encode() for value in VALUES]), st.binary(max_size=30))
header_lists = st.lists(st.tuples(st.sampled_from(HEADERS), header_values), max_size=4)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(f"sqlite:///{directory / 'test.db'}", directory) as served:
        yield served


def test_any_request_is_answered_properly(served: Served) -> None:
    @settings(max_examples=500, derandomize=True, database=None)
    @given(st.sampled_from(METHODS), targets, header_lists, st.binary(max_size=30))
    def ask(
        method: str, target: tuple[list[str], list[tuple[str, str]]], headers: list[tuple[str, bytes]], body: bytes
    ) -> None:
        path = "".join(target[0])
        query = "&".join(f"{name}={value}" for name, value in target[1])
        lines = [f"{method} {path}?{query} HTTP/1.1".encode(), b"Host: localhost"]
        lines += [name.encode() + b": " + value for name, value in headers]
        lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
        with closing(RawConnection(served.gateway.settings.port)) as line:
            line.send(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            answer = line.answer(without_body=method == "HEAD")
        assert 200 <= answer.status < 500, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]
        if answer.status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            if answer.body:
                assert json.loads(answer.body)["status"] == answer.status

    ask()
