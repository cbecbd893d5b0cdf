"""The simulation's fast profile; `make simulate` runs the long one."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import TaskLife


def test_no_order_of_events_loses_a_task_or_pays_twice() -> None:
    fast = settings(
        max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    run_state_machine_as_test(TaskLife, settings=fast)
