"""Callbacks that arrive early or late."""

import threading
import uuid
from collections.abc import Iterator

import pytest

from tests.support.clients.callbacks import DUPLICATE, RECEIVED, URL, answer, failure_a, shape_b, sources
from tests.support.servers.gateway import FREQUENT
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import Reply, accepted, envelope, success_a

# --- callbacks that arrive before the submit's reply


@pytest.mark.parametrize("early", ["success", "failure", "notice"])
def test_a_callback_before_the_reply_counts(served: Served, early: str) -> None:
    gate, upstream_id = threading.Event(), uuid.uuid4().hex
    served.vendor.on_submit = lambda _: Reply(
        {"code": 200, "msg": "success", "data": {"taskId": upstream_id}}, gate=gate
    )
    task = served.client.submit()
    submit = served.submit_of(task["id"])
    assert served.client.task(task["id"])["status"] == "submitting"
    body, status = {
        "success": (success_a(upstream_id, URL), "succeeded"),
        "failure": (failure_a(upstream_id, 501), "failed"),
        "notice": (shape_b(upstream_id, 0), "processing"),
    }[early]
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    before = served.client.task(task["id"])
    assert (before["status"], before["upstream_task_id"]) == (status, upstream_id)
    gate.set()
    # Another task's round trip proves that the held reply has been processed.
    served.calm()
    served.processing()
    after = served.client.task(task["id"])
    assert (after["status"], after["images"], after["upstream_task_id"]) == (status, before["images"], upstream_id)
    assert served.event_types(task["id"]) == ["task.queued", "task.submitting", f"task.{status}"]
    assert answer(served.call_back(submit, success_a(upstream_id, URL)))[0] == 200


def test_a_rejection_does_not_undo_an_earlier_result(served: Served) -> None:
    gate, upstream_id = threading.Event(), uuid.uuid4().hex
    refusal = envelope(400, "never heard of it")
    served.vendor.on_submit = lambda _: Reply(refusal.body, gate=gate)
    task = served.client.submit()
    submit = served.submit_of(task["id"])
    assert answer(served.call_back(submit, success_a(upstream_id, URL))) == (200, RECEIVED)
    gate.set()
    served.calm()
    served.processing()
    assert served.client.task(task["id"])["status"] == "succeeded"


def test_a_notice_supplies_the_id_of_a_submit_without_reply(served: Served) -> None:
    served.vendor.on_submit = lambda _: Reply(hang_up=True)
    task, upstream_id = served.client.submit(), uuid.uuid4().hex
    submit = served.submit_of(task["id"])
    assert answer(served.call_back(submit, shape_b(upstream_id, "0"))) == (200, RECEIVED)
    found = served.client.task(task["id"])
    assert (found["status"], found["upstream_task_id"], found["attempts"]) == ("processing", upstream_id, 1)


def test_a_notice_about_a_processing_task_changes_nothing(served: Served) -> None:
    task, submit = served.processing()
    assert answer(served.call_back(submit, shape_b(task["upstream_task_id"], 0))) == (200, RECEIVED)
    assert served.client.task(task["id"]) == task


# --- late results replace our own guesses


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("impatient")
    with serve(
        empty_database(request.param, request, directory), directory, task_timeout_seconds=0.2, loop_times=FREQUENT
    ) as served:
        yield served


@pytest.mark.parametrize("late", ["success", "failure"])
@pytest.mark.parametrize("guess", ["timeout", "submission_unknown"])
def test_a_late_result_replaces_a_guess(impatient: Served, guess: str, late: str) -> None:
    upstream_id = uuid.uuid4().hex
    reply = accepted(upstream_id) if guess == "timeout" else Reply(hang_up=True)
    impatient.vendor.on_submit = lambda _: reply
    task = impatient.client.submit()
    submit = impatient.submit_of(task["id"])
    failed = impatient.client.wait_for(task["id"], "failed")
    assert failed["error"]["code"] == guess
    if guess == "submission_unknown":
        assert failed["upstream_task_id"] is None
        # Garbage and notices about other tasks don't change the guess.
        assert impatient.call_back(submit, b"garbage").status_code == 422
        assert impatient.client.task(task["id"]) == failed
    body = success_a(upstream_id, URL) if late == "success" else failure_a(upstream_id, 400, "bad words")
    assert answer(impatient.call_back(submit, body)) == (200, RECEIVED)
    done = impatient.client.task(task["id"])
    assert done["upstream_task_id"] == upstream_id
    if late == "success":
        assert (done["status"], done["error"], sources(done)) == ("succeeded", None, [URL])
    else:
        assert done["error"] == {"code": "content_policy", "message": "bad words", "upstream_code": "400"}
    first = ["task.queued", "task.submitting", *(["task.processing"] if guess == "timeout" else []), "task.failed"]
    assert impatient.event_types(task["id"]) == [*first, f"task.{done['status']}"]
    assert answer(impatient.call_back(submit, body)) == (200, DUPLICATE)


def test_another_tasks_result_does_not_replace_a_guess(impatient: Served) -> None:
    impatient.vendor.on_submit = lambda _: accepted()
    task = impatient.client.submit()
    submit = impatient.submit_of(task["id"])
    failed = impatient.client.wait_for(task["id"], "failed")
    assert answer(impatient.call_back(submit, success_a("0" * 32))) == (409, "task_mismatch")
    assert impatient.client.task(task["id"]) == failed


def test_a_late_notice_supplies_the_id_but_no_event(impatient: Served) -> None:
    impatient.vendor.on_submit = lambda _: Reply(hang_up=True)
    task, upstream_id = impatient.client.submit(), uuid.uuid4().hex
    submit = impatient.submit_of(task["id"])
    impatient.client.wait_for(task["id"], "failed")
    assert answer(impatient.call_back(submit, shape_b(upstream_id, 0))) == (200, RECEIVED)
    found = impatient.client.task(task["id"])
    assert (found["status"], found["upstream_task_id"]) == ("failed", upstream_id)
    assert impatient.event_types(task["id"]) == ["task.queued", "task.submitting", "task.failed"]
    impatient.vendor.wait_for_polls(1, upstream_id)
