"""Callbacks with random bodies: responses and transitions stay valid."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.servers.served import Served, serve

MAY_BECOME = {
    "processing": {"processing", "succeeded", "failed"},
    "succeeded": {"succeeded"},
    "failed": {"failed"},
}
ANSWERS = {
    (200, "received"),
    (200, "duplicate"),
    (409, "task_mismatch"),
    (422, "unreadable_callback"),
}
# A placeholder for the vendor's task id.
OWN_ID = "<own id>"
URL = "https://tempfile.example/a.png"

numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([200, 400, 401, 451, 500, 501, 1, 0, 2, 3, -1, 10**9, 10**40, "200", " 400 ", "1", "\u0661", True]),
)
texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from([OWN_ID, URL, f"{URL},{URL}", f'["{URL}"]', "\ud800", "\x00", "a" * 5_000, "http://[", "https://"]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
ids = st.one_of(st.just(OWN_ID), st.just("0" * 32), texts)
results = st.one_of(
    values, st.fixed_dictionaries({"resultImageUrl": st.one_of(st.just(URL), texts, st.lists(texts, max_size=3))})
)
Body = dict[str, Any]
shape_a: st.SearchStrategy[Body] = st.fixed_dictionaries(
    {
        "code": st.one_of(st.just(200), numbers),
        "msg": texts,
        "data": st.fixed_dictionaries({"taskId": ids, "info": results}),
    }
)
shape_b: st.SearchStrategy[Body] = st.fixed_dictionaries(
    {
        "code": numbers,
        "data": st.fixed_dictionaries(
            {
                "taskId": ids,
                "successFlag": st.one_of(st.just(1), numbers),
                "response": results,
                "errorCode": numbers,
                "errorMessage": texts,
            }
        ),
    }
)
KEYS = ["code", "msg", "message", "data", "taskId", "task_id", "successFlag", "info", "resultImageUrl", "imageUrls"]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Generate a vendor's callback with missing or altered fields."""
    body = draw(st.one_of(shape_a, shape_b))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from([body, body["data"]])) if isinstance(body.get("data"), dict) else body
        key = draw(st.sampled_from(KEYS))
        match draw(st.sampled_from(["drop", "set", "text"])):
            case "drop":
                place.pop(key, None)
            case "set":
                place[key] = draw(values)
            case _:
                place[key] = json.dumps(place.get(key))
    return body


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Generate a body with a wrong encoding, truncation or additions."""
    text = json.dumps(draw(st.one_of(mutated(), values)), ensure_ascii=draw(st.booleans()))
    match draw(st.sampled_from(["plain", "plain", "cut", "twice", "spaces", "comment"])):
        case "cut":
            text = text[: draw(st.integers(0, len(text)))]
        case "twice":
            text = text[:-1] + f', "code": {draw(st.integers())}' + text[-1:]
        case "spaces":
            text = draw(st.sampled_from(["\ufeff", "\x00", " \n\t", "\x0b"])) + text
        case "comment":
            text += draw(st.sampled_from(["//", "\x00", "}", ",", "\n{}"]))
        case _:
            pass
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "utf-8-sig", "latin-1"]))
    return text.encode(encoding, "surrogatepass" if encoding != "latin-1" else "replace")


sane = st.fixed_dictionaries(
    {
        "code": st.sampled_from([200, "200", 400, 500, 501]),
        "data": st.fixed_dictionaries(
            {
                "taskId": st.sampled_from([OWN_ID, OWN_ID, "0" * 32]),
                "info": st.just({"resultImageUrl": URL}),
                "successFlag": st.sampled_from([None, None, 0, 1, 2, 3]),
                "response": st.just({"resultImageUrl": URL}),
            }
        ),
    }
).map(lambda body: json.dumps(body).encode())
bodies = st.one_of(
    sane,
    written(),
    st.binary(max_size=60),
    st.builds(lambda opening, depth: opening * depth, st.sampled_from([b"[", b'{"a":', b'{"data":']), st.integers(0, 9_000)),
    st.builds(lambda digits: b'{"code":' + b"9" * digits + b"}", st.integers(1, 6_000)),
    st.sampled_from([b'{"code":NaN}', b'{"code":1e999}', b'{"code":-Infinity}', b'{"code":"\\ud800"}', b"\xed\xa0\x80"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(f"sqlite:///{directory / 'test.db'}", directory) as served:
        yield served


def test_nothing_at_a_callback_address_makes_a_fault_or_an_illegal_move(served: Served) -> None:
    current: list[Any] = []
    seen: set[tuple[Any, ...]] = set()

    @settings(max_examples=400, derandomize=True, database=None)
    @given(bodies)
    def call_back(body: bytes) -> None:
        if not current or current[0]["status"] != "processing":
            # The finished task gets one more callback; then a new task follows.
            if current:
                answer = served.call_back(current[1], body)
                assert (answer.status_code, answer.json()) == (200, {"status": "duplicate"})
                assert served.client.task(current[0]["id"]) == current[0]
            current[:] = served.processing()
        before, submit = current
        body = body.replace(OWN_ID.encode(), before["upstream_task_id"].encode())
        answer = served.call_back(submit, body)
        content = answer.json()
        outcome = (answer.status_code, content.get("status") if answer.status_code == 200 else content["code"])
        assert outcome in ANSWERS
        after = served.client.task(before["id"])
        assert after["status"] in MAY_BECOME[before["status"]]
        if outcome != (200, "received"):
            assert after == before
        assert (after["status"] == "succeeded") == bool(after["images"])
        assert (after["status"] == "failed") == bool(after["error"])
        current[0] = after
        seen.add((*outcome, after["status"]))

    call_back()
    # The cases must vary.
    assert {status for *_, status in seen} == {"processing", "succeeded", "failed"}
    assert {word for _, word, _ in seen} == {"received", "task_mismatch", "unreadable_callback"}
