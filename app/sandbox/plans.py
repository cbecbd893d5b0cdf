"""Plans: everything that chance decides about a submit or a task, drawn at once and kept."""

import random
from dataclasses import dataclass

from app.domain.models import Model
from app.sandbox.behavior import OUTCOMES, RECORD_FAULTS, SUBMIT_FAULTS, Behavior
from app.sandbox.directives import Directives

OK = 200
"""The verdict of a task that ends well."""

_ALWAYS_ACCEPT = frozenset({"hang_up_after", "garbage_200", "slow_reply"})
_PROXY_FAULTS = frozenset({"proxy_502", "proxy_504"})


@dataclass(frozen=True, slots=True)
class SubmitPlan:
    """What happens to one submit: the fault, if any, and whether the task is accepted nevertheless."""

    fault: str | None
    accepted: bool
    in_http_200: bool
    retry_after_seconds: int | None
    slow_seconds: float
    early: bool


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What happens to one task.

    `delay` is in seconds, None for a task that never ends; `verdict` is 200, 400, 500 or 501; `notices` names the
    callbacks in their order; `luck` seeds the draws made at each question to record-info;
    `in_http_200` is the probability that its errors come inside an HTTP 200.
    """

    delay: float | None
    verdict: int
    notices: tuple[str, ...]
    late_seconds: float
    not_found_seconds: float
    record_faults: dict[str, float]
    record_limits: dict[str, int]
    in_http_200: float
    luck: str


def plan_submit(behavior: Behavior, directives: Directives, luck: str, nth: int) -> SubmitPlan:
    """Decide about the n-th submit of a prompt, counted from 0; the same luck decides the same."""
    dice = random.Random(f"{luck}:submit:{nth}")  # noqa: S311 -- play, not secrecy
    step = directives.step(nth)
    fault = draw(dice, {name: getattr(behavior, name) for name in SUBMIT_FAULTS})
    accepted_by_chance = dice.random() < behavior.proxy_accepts
    early = dice.random() < behavior.callback_early
    inside = dice.random() < behavior.in_http_200
    if step is not None:
        fault = step.fault
    accepted = fault is None or fault in _ALWAYS_ACCEPT
    if fault in _PROXY_FAULTS:
        accepted = accepted_by_chance if step is None or step.accepts is None else step.accepts
    return SubmitPlan(fault, accepted, inside, behavior.retry_after_seconds, behavior.slow_seconds, early)


def plan_task(behavior: Behavior, directives: Directives, luck: str, model: Model, *, early: bool) -> TaskPlan:
    """Decide about a task once it is accepted; the same luck decides the same."""
    dice = random.Random(f"{luck}:task")  # noqa: S311 -- play, not secrecy
    outcome = draw(dice, {name: getattr(behavior, name) for name in OUTCOMES})
    delay = dice.uniform(*behavior.delay_seconds)
    if early:
        delay = 0.0
    return TaskPlan(
        delay=None if outcome == "never" else delay,
        verdict=int(outcome.removeprefix("fail_")) if outcome and outcome != "never" else OK,
        notices=_notices(dice, behavior, model),
        late_seconds=0.0 if early else behavior.callback_late_seconds,
        not_found_seconds=behavior.not_found_seconds,
        record_faults={name: getattr(behavior, name) for name in RECORD_FAULTS if getattr(behavior, name)},
        record_limits={name: limit for name, limit in directives.limits.items() if name in RECORD_FAULTS},
        in_http_200=behavior.in_http_200,
        luck=luck,
    )


def record_fault(plan: TaskPlan, nth: int) -> str | None:
    """Decide about the n-th question to record-info about a task, counted from 0."""
    dice = random.Random(f"{plan.luck}:record:{nth}")  # noqa: S311 -- play, not secrecy
    fault = draw(dice, plan.record_faults)
    return fault if fault and nth < plan.record_limits.get(fault, nth + 1) else None


def draw(dice: random.Random, chances: dict[str, float]) -> str | None:
    """Draw at most one name, each with its own probability."""
    point = dice.random()
    for name, chance in chances.items():
        if point < chance:
            return name
        point -= chance
    return None


def _notices(dice: random.Random, behavior: Behavior, model: Model) -> tuple[str, ...]:
    # Every chance is drawn in every case, so that changing one of them leaves the others as they were.
    names = ("drop", "garbage", "wrong_task", "progress", "repeat", "contradict", "reorder")
    happens = {name: dice.random() < getattr(behavior, f"callback_{name}") for name in names}
    if happens["drop"]:
        return ()
    notices = ["garbage"] * happens["garbage"] + ["wrong_task"] * happens["wrong_task"]
    # Only generate-2 has a callback that can say GENERATING.
    notices += ["generating"] * (happens["progress"] and model is Model.NANO_BANANA_2)
    notices += ["verdict"] * (behavior.repeat_count if happens["repeat"] else 1)
    notices += ["generating"] * (happens["reorder"] and model is Model.NANO_BANANA_2)
    notices += ["contradiction"] * happens["contradict"]
    return tuple(notices)
