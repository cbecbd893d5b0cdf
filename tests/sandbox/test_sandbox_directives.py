import pytest

from app.sandbox.behavior import Behavior, BehaviorError
from app.sandbox.directives import KNOWN_WORDS, DirectiveError, parse

from .client import Client


def test_a_script_is_followed_in_order(client: Client) -> None:
    prompt = "x [sandbox: refuse_429*2, refuse_503*1, proxy_502=lost*1]"
    assert [client.submit(prompt).status_code for _ in range(5)] == [429, 429, 503, 502, 200]
    assert client.submit("y [sandbox: refuse_429*2]").status_code == 429
    assert len(client.tasks()) == 1


def test_outcomes_count_tasks(client: Client) -> None:
    prompt = "x [sandbox: refuse_500*1, fail=501*1]"
    assert client.submit(prompt).status_code == 500
    states = [client.settled(client.accept(prompt))["state"] for _ in range(2)]
    assert states == ["failed", "succeeded"]


def test_a_directive_overrides_the_behavior(client: Client) -> None:
    client.behave(refuse_400=1, fail_500=1)
    assert client.submit("[sandbox: refuse_503*1]").status_code == 503
    assert client.submit("[sandbox: refuse_503*1]").status_code == 200
    task_id = client.accept("[sandbox: refuse_400=0, fail_500=0]")
    assert client.settled(task_id)["state"] == "succeeded"


def test_an_unknown_word_lists_the_known_ones(client: Client) -> None:
    answer = client.submit("[sandbox: explode]")
    assert answer.status_code == 400
    assert "'explode'" in answer.json()["msg"]
    assert all(word in answer.json()["msg"] for word in KNOWN_WORDS)


@pytest.mark.parametrize(
    "directive",
    [
        "[sandbox: fail=402]",
        "[sandbox: fail]",
        "[sandbox: delay]",
        "[sandbox: delay=x]",
        "[sandbox: delay=3-1]",
        "[sandbox: delay=1*2]",
        "[sandbox: never=2]",
        "[sandbox: repeat=0]",
        "[sandbox: refuse_400=lost]",
        "[sandbox: drop",
        "[sandbox: drop early]",
    ],
)
def test_bad_directives_are_rejected(directive: str) -> None:
    with pytest.raises(DirectiveError):
        parse(directive)


def test_directives_are_removed_from_the_prompt() -> None:
    parsed = parse("a  [Sandbox: DROP, delay = 1-2] lake [sandbox: proxy_504=accepted , hang_up_after * 2,]")
    assert parsed.text == "a lake"
    assert parsed.settings == {"callback_drop": 1, "delay_seconds": "1-2"}
    assert [(step.fault, step.count, step.accepts) for step in parsed.script] == [
        ("proxy_504", None, True),
        ("hang_up_after", 2, None),
    ]


@pytest.mark.parametrize("word", KNOWN_WORDS)
def test_every_word_works(word: str) -> None:
    values = {"fail": "=400", "in_http_200": "=0.5", "proxy_accepts": "=1"}
    needs = word.endswith("_seconds") or word in {"delay", "late", "not_found", "retry_after", "repeat_count"}
    parse(f"[sandbox: {word}{values.get(word, '=2' if needs else '')}]").apply(Behavior())


def test_behavior_over_http(client: Client) -> None:
    assert client.get("/sandbox/behaviour").json()["delay_seconds"] == [0, 0]
    answer = client.put("/sandbox/behaviour", json={"nope": 1, "never": 7})
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == ["never", "nope"]
    assert "refuse_429" in answer.json()["detail"]
    assert client.get("/sandbox/behaviour").json()["never"] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"fail_400": 0.7, "never": 0.7}', "only one of fail_400, fail_500, fail_501, never can happen"),
        ('{"delay_seconds": [2, 1]}', "the smaller first"),
        ('{"refuse_400": -1}', "refuse_400: "),
    ],
)
def test_an_invalid_behavior_is_explained(text: str, says: str) -> None:
    with pytest.raises(BehaviorError, match=says):
        Behavior.from_json(text)


def test_one_number_is_a_range() -> None:
    assert Behavior.from_json('{"delay_seconds": 3}').delay_seconds == (3, 3)
