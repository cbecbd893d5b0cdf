"""Random decisions about submits and tasks, reproducible from a seed."""

import random
from dataclasses import dataclass

from app.domain.models import Model
from app.sandbox.behavior import OUTCOMES, RECORD_FAULTS, SUBMIT_FAULTS, Behavior
from app.sandbox.directives import Directives

OK = 200
"""The code of a task that succeeds."""
GENERATION_FAILED = 501
"""The code of a task that fails."""

_ACCEPTING_FAULTS = frozenset({"hang_up_after", "garbage_200", "slow_reply"})


@dataclass(frozen=True, slots=True)
class SubmitPlan:
    """What happens to one submit; faulty ones can be accepted."""

    behavior: Behavior
    fault: str | None
    is_accepted: bool
    is_early: bool
    in_http_200: bool


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What happens to one task.

    `delay` is in seconds, None for a task that never ends. `code` is 200, 400, 500 or 501. `callbacks` lists kinds of
    callbacks in order. `luck` seeds the draws of each poll; `in_http_200` is a probability.
    """

    delay: float | None
    code: int
    callbacks: tuple[str, ...]
    late_seconds: float
    not_found_seconds: float
    record_faults: dict[str, float]
    record_limits: dict[str, int]
    in_http_200: float
    luck: str


def plan_submit(behavior: Behavior, directives: Directives, luck: str, nth: int) -> SubmitPlan:
    """Plan a prompt's n-th submit (from 0)."""
    dice = _dice(f"{luck}:submit:{nth}")
    fault = _draw(dice, behavior.chances(SUBMIT_FAULTS))
    accepts = dice.random() < behavior.proxy_accepts
    is_early = dice.random() < behavior.callback_early
    in_http_200 = dice.random() < behavior.in_http_200
    step = directives.step(nth)
    if step is not None:
        fault = step.fault
        accepts = accepts if step.accepts is None else step.accepts
    is_accepted = accepts if fault and fault.startswith("proxy_") else fault is None or fault in _ACCEPTING_FAULTS
    return SubmitPlan(behavior, fault, is_accepted, is_early, in_http_200)


def plan_task(behavior: Behavior, directives: Directives, luck: str, model: Model, *, is_early: bool) -> TaskPlan:
    """Plan an accepted task."""
    dice = _dice(f"{luck}:task")
    outcome = _draw(dice, behavior.chances(OUTCOMES))
    delay = dice.uniform(*behavior.delay_seconds)
    return TaskPlan(
        delay=None if outcome == "never" else 0.0 if is_early else delay,
        code=int(outcome.removeprefix("fail_")) if outcome and outcome != "never" else OK,
        callbacks=_plan_callbacks(dice, behavior, model),
        late_seconds=0.0 if is_early else behavior.callback_late_seconds,
        not_found_seconds=behavior.not_found_seconds,
        record_faults=behavior.chances(RECORD_FAULTS),
        record_limits={name: limit for name, limit in directives.limits.items() if name in RECORD_FAULTS},
        in_http_200=behavior.in_http_200,
        luck=luck,
    )


def draw_record_fault(plan: TaskPlan, nth: int) -> str | None:
    """Draw the fault of a task's n-th poll (from 0)."""
    fault = _draw(_dice(f"{plan.luck}:record:{nth}"), plan.record_faults)
    return fault if fault and nth < plan.record_limits.get(fault, nth + 1) else None


def _dice(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 -- not for secrets


def _draw(dice: random.Random, chances: dict[str, float]) -> str | None:
    """Draw at most one name by its probability."""
    point = dice.random()
    for name, chance in chances.items():
        if point < chance:
            return name
        point -= chance
    return None


def _plan_callbacks(dice: random.Random, behavior: Behavior, model: Model) -> tuple[str, ...]:
    # Always draw for every fault, so that changing one probability doesn't change the other draws.
    names = ("drop", "garbage", "wrong_task", "progress", "repeat", "contradict", "reorder")
    happens = {name: dice.random() < getattr(behavior, f"callback_{name}") for name in names}
    # Only generate-2 sends GENERATING callbacks.
    can_progress = model is Model.NANO_BANANA_2
    counts = {
        "garbage": happens["garbage"],
        "wrong_task": happens["wrong_task"],
        "generating": happens["progress"] and can_progress,
        "result": behavior.repeat_count if happens["repeat"] else 1,
        "generating_late": happens["reorder"] and can_progress,
        "contradiction": happens["contradict"],
    }
    return () if happens["drop"] else tuple(kind for kind, count in counts.items() for _ in range(count))
