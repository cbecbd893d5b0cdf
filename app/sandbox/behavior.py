"""How the sandbox behaves: how long it takes, how it fails, how it calls back."""

import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

SUBMIT_FAULTS = (
    "refuse_400",
    "refuse_401",
    "refuse_402",
    "refuse_429",
    "refuse_500",
    "refuse_503",
    "proxy_502",
    "proxy_504",
    "hang_up_before",
    "hang_up_after",
    "garbage_200",
    "slow_reply",
)
"""What may go wrong with a submit; at most one of them happens."""

OUTCOMES = ("fail_400", "fail_500", "fail_501", "never")
"""How a task may end other than well; at most one of them happens."""

RECORD_FAULTS = ("record_error", "record_hang_up")
"""What may go wrong with a question to record-info; at most one of them happens."""


class BehaviorError(ValueError):
    """A behaviour that can't be: `problems` lists `{"field", "message"}`, the text says them in one line."""

    def __init__(self, problems: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{problem['field']}: {problem['message']}" for problem in problems))
        self.problems = problems


def _pair(value: object) -> object:
    """Let one number stand for a range of that number only."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_DAY = 86_400
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=_DAY)]
Range = Annotated[tuple[Seconds, Seconds], BeforeValidator(_pair)]


class Behavior(BaseModel):
    """Settings of the sandbox. Faults are probabilities from 0 (never, the default) to 1 (always)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int | str | None = Field(default=None, description="Makes draws repeatable: per prompt, and its n-th submit.")
    accepted_keys: list[str] | None = Field(default=None, description="API keys let in; null lets any in.")
    credits: int | None = Field(default=100, description="What the credit endpoint says.")
    delay_seconds: Range = Field(default=(2.0, 4.0), description="How long a generation takes: [min, max] or a number.")

    refuse_400: Probability = Field(default=0.0, description="Refuse a submit: bad request.")
    refuse_401: Probability = Field(default=0.0, description="Refuse a submit: unauthorized.")
    refuse_402: Probability = Field(default=0.0, description="Refuse a submit: out of credits.")
    refuse_429: Probability = Field(default=0.0, description="Refuse a submit: too many; with Retry-After.")
    refuse_500: Probability = Field(default=0.0, description="Refuse a submit: server error, in the vendor's envelope.")
    refuse_503: Probability = Field(default=0.0, description="Refuse a submit: maintenance, in the vendor's envelope.")
    proxy_502: Probability = Field(default=0.0, description="Answer 502 with a proxy's HTML page.")
    proxy_504: Probability = Field(default=0.0, description="Answer 504 with a proxy's HTML page.")
    hang_up_before: Probability = Field(default=0.0, description="Cut the connection; the task is not accepted.")
    hang_up_after: Probability = Field(default=0.0, description="Accept the task, then cut the connection.")
    garbage_200: Probability = Field(default=0.0, description="Accept the task, answer 200 with a broken body.")
    slow_reply: Probability = Field(default=0.0, description="Accept the task, answer after `slow_seconds`.")
    in_http_200: Probability = Field(default=0.0, description="Put an error's code into an HTTP 200, not the status.")
    proxy_accepts: Probability = Field(default=0.5, description="Whether the task was accepted behind a 502 or 504.")
    retry_after_seconds: int | None = Field(default=1, ge=0, le=_DAY, description="Retry-After of a 429; null: none.")
    slow_seconds: Seconds = Field(default=35.0, description="How late a `slow_reply` is.")

    fail_400: Probability = Field(default=0.0, description="End in a refusal of the content.")
    fail_500: Probability = Field(default=0.0, description="End in an internal error.")
    fail_501: Probability = Field(default=0.0, description="End in a failed generation.")
    never: Probability = Field(default=0.0, description="Stay generating forever.")

    callback_drop: Probability = Field(default=0.0, description="Never call back.")
    callback_repeat: Probability = Field(default=0.0, description="Send the verdict `repeat_count` times.")
    repeat_count: int = Field(default=2, ge=1, le=20, description="How often a repeated verdict is sent in all.")
    callback_early: Probability = Field(default=0.0, description="Finish and call back before answering the submit.")
    callback_late_seconds: Seconds = Field(default=0.0, description="Wait this long between verdict and callback.")
    callback_garbage: Probability = Field(default=0.0, description="Send an unreadable body first.")
    callback_wrong_task: Probability = Field(default=0.0, description="Send the verdict with another taskId first.")
    callback_progress: Probability = Field(default=0.0, description="Send GENERATING before the verdict (generate-2).")
    callback_reorder: Probability = Field(default=0.0, description="Send GENERATING after the verdict (generate-2).")
    callback_contradict: Probability = Field(default=0.0, description="Send the opposite verdict after the true one.")
    callback_tries: int = Field(default=3, ge=1, le=10, description="Tries to deliver a verdict until a 200.")
    callback_timeout_seconds: float = Field(default=15.0, gt=0, le=600, description="How long one try waits.")
    callback_pauses_seconds: list[Seconds] = Field(
        default=[1.0, 2.0], min_length=1, description="Pauses between tries; the last one repeats."
    )

    not_found_seconds: Seconds = Field(default=0.0, description="record-info says 404 this long after the submit.")
    record_error: Probability = Field(default=0.0, description="record-info answers a server error in its envelope.")
    record_hang_up: Probability = Field(default=0.0, description="record-info cuts the connection.")

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        if self.delay_seconds[0] > self.delay_seconds[1]:
            raise ValueError("delay_seconds must be [min, max], the smaller first")
        for names in (SUBMIT_FAULTS, OUTCOMES, RECORD_FAULTS):
            total = sum(getattr(self, name) for name in names)
            if total > 1 + 1e-9:
                raise ValueError(
                    f"only one of {', '.join(names)} can happen: they sum to {total:g}, at most 1 is possible"
                )
        return self

    @classmethod
    def from_dict(cls, fields: object) -> Self:
        """Build a behaviour from field values; raises `BehaviourError` that names what is wrong."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise BehaviorError([_problem(dict(found)) for found in error.errors()]) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Build a behaviour from a JSON object; fields left out keep their defaults. Raises `BehaviourError`."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BehaviorError([{"field": "behaviour", "message": f"not JSON: {error}"}]) from None
        return cls.from_dict(fields)


def _problem(found: dict[str, Any]) -> dict[str, str]:
    field = ".".join(str(part) for part in found["loc"]) or "behaviour"
    if found["type"] == "model_type":
        return {"field": field, "message": "not a JSON object"}
    if found["type"] == "extra_forbidden":
        return {"field": field, "message": f"no such field; known are {', '.join(Behavior.model_fields)}"}
    return {"field": field, "message": str(found["msg"]).removeprefix("Value error, ")}
