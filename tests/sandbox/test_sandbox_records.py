import time

import httpx
import pytest

from tests.support.waiting import until

from .client import Client


def test_a_new_task_is_not_found_for_a_while(client: Client) -> None:
    begin = time.time()
    task_id = client.accept("[sandbox: not_found=0.2]")
    assert client.record(task_id).json()["code"] == 404
    until(lambda: client.record(task_id).json().get("data"))
    assert time.time() - begin >= 0.2


def test_errors(client: Client) -> None:
    task_id = client.accept("[sandbox: record_error*2]")
    codes = [client.record(task_id).json()["code"] for _ in range(4)]
    assert codes == [500, 500, 200, 200]


def test_errors_in_http_200(client: Client) -> None:
    client.behave(record_error=1, in_http_200=1)
    answer = client.record(client.accept())
    assert (answer.status_code, answer.json()["code"]) == (200, 500)


def test_hanging_up(client: Client) -> None:
    task_id = client.accept("[sandbox: record_hang_up*1]")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        client.record(task_id)
    assert client.record(task_id).status_code == 200


def test_never(client: Client) -> None:
    client.behave(never=1)
    client.accept()
    [task] = client.tasks()
    assert (task["state"], task["settled"]) == ("generating", False)
