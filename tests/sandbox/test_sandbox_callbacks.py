import json
import queue
import time

import pytest

from .client import Client
from .receiver import Receiver


@pytest.mark.parametrize(("code", "flag"), [(400, 3), (500, 2), (501, 3)])
def test_failures(client: Client, receiver: Receiver, code: int, flag: int) -> None:
    task_id = client.accept(f"[sandbox: fail={code}]", callBackUrl=receiver.url)
    body = receiver.next()
    assert body["code"] == code
    assert body["data"] == {"taskId": task_id, "info": {"resultImageUrl": ""}}
    data = client.record(task_id).json()["data"]
    assert (data["successFlag"], data["errorCode"], data["errorMessage"]) == (flag, code, body["msg"])
    assert data["response"] is None
    client.accept(f"[sandbox: fail={code}]", "generate-2", callBackUrl=receiver.url)
    body = receiver.next()
    assert (body["code"], body["data"]["successFlag"], body["data"]["errorCode"]) == (200, flag, code)


def test_a_result_is_sent_up_to_three_times(client: Client, receiver: Receiver) -> None:
    receiver.statuses = [500, 307, 204]
    task_id = client.accept(callBackUrl=receiver.url)
    bodies = [receiver.raw() for _ in range(3)]
    assert len(set(bodies)) == 1
    task = client.settled(task_id)
    assert [call["status"] for call in task["callbacks"]] == [500, 307, 204]
    assert {call["url"] for call in task["callbacks"]} == {receiver.url}
    assert task["state"] == "succeeded"
    assert receiver.calls.empty()


def test_a_200_ends_the_attempts(client: Client, receiver: Receiver) -> None:
    receiver.statuses = [503]
    task = client.settled(client.accept(callBackUrl=receiver.url))
    assert [call["status"] for call in task["callbacks"]] == [503, 200]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "nonsense", "http://[", "ftp://x/", "http://\ud800/", "x" * 9000]
)
def test_an_unreachable_address_does_not_fail_the_task(client: Client, url: str) -> None:
    task = client.settled(client.accept(callBackUrl=url))
    assert task["state"] == "succeeded"
    assert [call["status"] for call in task["callbacks"]] == [None] * 3
    assert all(call["error"] for call in task["callbacks"])


def test_a_receiver_that_never_responds_is_given_up(client: Client, receiver: Receiver) -> None:
    receiver.statuses = [0]
    client.behave(callback_timeout_seconds=0.1, callback_tries=1)
    task = client.settled(client.accept(callBackUrl=receiver.url))
    assert task["callbacks"][0]["error"] == "no response within 0.1 s"


def test_drop(client: Client, receiver: Receiver) -> None:
    task = client.settled(client.accept("[sandbox: drop]", callBackUrl=receiver.url))
    assert task["callbacks"] == []
    with pytest.raises(queue.Empty):
        receiver.calls.get_nowait()


def test_repeat(client: Client, receiver: Receiver) -> None:
    client.accept("[sandbox: repeat=4]", callBackUrl=receiver.url)
    assert len({receiver.raw() for _ in range(4)}) == 1


def test_early(client: Client, receiver: Receiver) -> None:
    receiver.statuses = [500]
    task_id = client.accept("[sandbox: early, delay=60]", callBackUrl=receiver.url)
    [task] = client.tasks()
    assert task["settled"]
    assert [call["status"] for call in task["callbacks"]] == [500, 200]
    assert receiver.next()["data"]["taskId"] == task_id


def test_late(client: Client, receiver: Receiver) -> None:
    task_id = client.accept("[sandbox: late=0.3]", callBackUrl=receiver.url)
    receiver.next()
    task = client.settled(task_id)
    assert task["callbacks"][0]["at"] - task["finished_at"] >= 0.3


def test_delay(client: Client, receiver: Receiver) -> None:
    begin = time.time()
    client.accept("[sandbox: delay=0.2-0.3]", callBackUrl=receiver.url)
    receiver.next()
    assert receiver.times[0] - begin >= 0.2


def test_garbage_and_another_task_come_first(client: Client, receiver: Receiver) -> None:
    receiver.statuses = [422, 409]
    task_id = client.accept("[sandbox: garbage, wrong_task]", callBackUrl=receiver.url)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(receiver.raw())
    wrong, right = receiver.next(), receiver.next()
    assert len(wrong["data"]["taskId"]) == 32
    assert wrong["data"]["taskId"] != task_id == right["data"]["taskId"]


@pytest.mark.parametrize(("words", "codes"), [("contradict", [200, 501]), ("fail=400, contradict", [400, 200])])
def test_contradict(client: Client, receiver: Receiver, words: str, codes: list[int]) -> None:
    client.accept(f"[sandbox: {words}]", callBackUrl=receiver.url)
    assert [receiver.next()["code"] for _ in range(2)] == codes


@pytest.mark.parametrize(("word", "flags"), [("progress", [0, 1]), ("reorder", [1, 0])])
def test_generating_callbacks(client: Client, receiver: Receiver, word: str, flags: list[int]) -> None:
    client.accept(f"[sandbox: {word}]", "generate-2", callBackUrl=receiver.url)
    bodies = [receiver.next()["data"] for _ in range(2)]
    assert [body["successFlag"] for body in bodies] == flags
    assert bodies[flags.index(0)]["response"] is None
    # Shape A has no GENERATING callback.
    task = client.settled(client.accept(f"[sandbox: {word}]", callBackUrl=receiver.url))
    assert len(task["callbacks"]) == 1
