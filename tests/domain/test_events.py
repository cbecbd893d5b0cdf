"""Events record their task's state for later readers."""

import pytest
from msgspec.structs import replace

from app.domain.event import event_of, task_at
from app.domain.task import Status, TaskState
from app.shapes.task import task_shape
from tests.support.tasks import STATES, make_task


@pytest.mark.parametrize("name", STATES)
def test_an_event_shows_clients_the_task_as_it_was(name: str) -> None:
    then = STATES[name]
    later = replace(make_task(), status=Status.CANCELED, attempts=9, updated_at=9_999_999, completed_at=9_999_999)
    seen = task_at(later, event_of(then).snapshot)
    assert task_shape(TaskState(seen, [], None), "") == task_shape(TaskState(then, [], None), "")
