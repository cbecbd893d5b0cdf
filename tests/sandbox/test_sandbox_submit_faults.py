import time

import httpx
import pytest

from .client import Client
from .receiver import Receiver


@pytest.mark.parametrize("code", [400, 401, 402, 429, 500, 503])
def test_refusals(client: Client, code: int) -> None:
    client.behave(**{f"refuse_{code}": 1}, retry_after_seconds=9)
    answer = client.submit()
    assert answer.status_code == answer.json()["code"] == code
    assert "data" not in answer.json()
    assert answer.headers.get("retry-after") == ("9" if code == 429 else None)
    client.behave(**{f"refuse_{code}": 1}, in_http_200=1)
    answer = client.submit()
    assert (answer.status_code, answer.json()["code"]) == (200, code)
    assert client.tasks() == []


@pytest.mark.parametrize("code", [502, 504])
@pytest.mark.parametrize("accepts", [0, 1])
def test_proxies(client: Client, code: int, accepts: int) -> None:
    client.behave(**{f"proxy_{code}": 1}, proxy_accepts=accepts)
    answer = client.submit()
    assert answer.status_code == code
    assert "<html>" in answer.text
    assert len(client.tasks()) == accepts
    [seen] = client.submits()
    assert (seen["fault"], seen["status"], seen["code"]) == (f"proxy_{code}", code, None)
    assert (seen["task_id"] is not None) == bool(accepts)


@pytest.mark.parametrize(("fault", "accepted"), [("hang_up_before", 0), ("hang_up_after", 1)])
def test_hanging_up_sends_nothing(client: Client, receiver: Receiver, fault: str, accepted: int) -> None:
    client.behave(**{fault: 1})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        client.submit(callBackUrl=receiver.url)
    assert len(client.tasks()) == accepted
    [seen] = client.submits()
    assert (seen["fault"], seen["status"], seen["code"]) == (fault, None, None)
    if accepted:
        assert receiver.next()["data"]["taskId"] == seen["task_id"]


def test_hanging_up_on_a_kept_connection(client: Client) -> None:
    client.accept()
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        client.submit("[sandbox: hang_up_before]")
    client.accept()


def test_garbage(client: Client) -> None:
    answer = client.submit("[sandbox: garbage_200]")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        answer.json()
    assert len(client.tasks()) == 1


def test_slow_reply(client: Client, receiver: Receiver) -> None:
    begin = time.time()
    task_id = client.accept("[sandbox: slow=0.3]", callBackUrl=receiver.url)
    assert time.time() - begin >= 0.3
    assert receiver.next()["data"]["taskId"] == task_id
    assert receiver.times[0] < begin + 0.3


def test_faults_follow_their_probabilities_and_the_seed(client: Client) -> None:
    def run() -> list[int]:
        client.delete("/sandbox/state")
        client.behave(refuse_500=0.3, proxy_502=0.3)
        return [client.submit(f"prompt {n % 20}").status_code for n in range(60)]

    first = run()
    assert first == run()
    assert {200, 500, 502} == set(first)
