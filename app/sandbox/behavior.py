"""Settings of the sandbox: delays, faults and callbacks."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

_DAY_SECONDS = 86_400


class BehaviorError(ValueError):
    """An invalid behavior; `problems` lists `{"field", "message"}`."""

    def __init__(self, error: ValidationError) -> None:
        self.problems = [_problem(dict(found)) for found in error.errors()]
        super().__init__("; ".join(f"{problem['field']}: {problem['message']}" for problem in self.problems))


def _as_range(value: object) -> object:
    """Convert `3`, `"3"` or `"1-3"` to a pair."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return low, high or low
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Probability = Annotated[float, Field(ge=0, le=1)]
SubmitFault = Annotated[Probability, "submit"]
Outcome = Annotated[Probability, "outcome"]
CallbackFault = Annotated[Probability, "callback"]
RecordFault = Annotated[Probability, "record"]
Seconds = Annotated[float, Field(ge=0, le=_DAY_SECONDS)]
Range = Annotated[tuple[Seconds, Seconds], BeforeValidator(_as_range)]


class Behavior(BaseModel):
    """Sandbox settings; faults are probabilities from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int | str | None = Field(default=None, description="Makes random draws repeatable per prompt and submit.")
    accepted_keys: list[str] | None = Field(default=None, description="Accepted API keys; null accepts any.")
    credits: int | None = Field(default=100, description="Credits that the credit endpoint returns.")
    delay_seconds: Range = Field(default=(2.0, 4.0), description="How long a generation takes: [min, max] or a number.")

    refuse_400: SubmitFault = Field(default=0.0, description="Reject a submit: bad request.")
    refuse_401: SubmitFault = Field(default=0.0, description="Reject a submit: unauthorized.")
    refuse_402: SubmitFault = Field(default=0.0, description="Reject a submit: out of credits.")
    refuse_429: SubmitFault = Field(default=0.0, description="Reject a submit: too many requests; with Retry-After.")
    refuse_500: SubmitFault = Field(default=0.0, description="Reject a submit: server error, in the vendor's envelope.")
    refuse_503: SubmitFault = Field(default=0.0, description="Reject a submit: maintenance, in the vendor's envelope.")
    proxy_502: SubmitFault = Field(default=0.0, description="Respond 502 with a proxy's HTML page.")
    proxy_504: SubmitFault = Field(default=0.0, description="Respond 504 with a proxy's HTML page.")
    hang_up_before: SubmitFault = Field(default=0.0, description="Cut the connection; the task is not accepted.")
    hang_up_after: SubmitFault = Field(default=0.0, description="Accept the task, then cut the connection.")
    garbage_200: SubmitFault = Field(default=0.0, description="Accept the task, respond 200 with a broken body.")
    slow_reply: SubmitFault = Field(default=0.0, description="Accept the task, respond after `slow_seconds`.")
    in_http_200: Probability = Field(
        default=0.0, description="Send an error's code inside HTTP 200, not as the status."
    )
    proxy_accepts: Probability = Field(default=0.5, description="Accept the task despite a 502 or 504.")
    retry_after_seconds: int | None = Field(
        default=1, ge=0, le=_DAY_SECONDS, description="Retry-After of a 429; null sends none."
    )
    slow_seconds: Seconds = Field(default=35.0, description="Delay of a `slow_reply`.")

    fail_400: Outcome = Field(default=0.0, description="Fail: content policy violation.")
    fail_500: Outcome = Field(default=0.0, description="Fail: internal error.")
    fail_501: Outcome = Field(default=0.0, description="Fail: generation failed.")
    never: Outcome = Field(default=0.0, description="Never finish.")

    callback_drop: CallbackFault = Field(default=0.0, description="Never call back.")
    callback_repeat: CallbackFault = Field(default=0.0, description="Send the result `repeat_count` times.")
    repeat_count: int = Field(default=2, ge=1, le=20, description="How often a repeated result is sent in total.")
    callback_early: CallbackFault = Field(
        default=0.0, description="Finish and call back before responding to the submit."
    )
    callback_late_seconds: Seconds = Field(default=0.0, description="Pause between the result and its callback.")
    callback_garbage: CallbackFault = Field(default=0.0, description="Send an unreadable body first.")
    callback_wrong_task: CallbackFault = Field(default=0.0, description="Send the result with a wrong taskId first.")
    callback_progress: CallbackFault = Field(default=0.0, description="Send GENERATING before the result (generate-2).")
    callback_reorder: CallbackFault = Field(default=0.0, description="Send GENERATING after the result (generate-2).")
    callback_contradict: CallbackFault = Field(default=0.0, description="Send the opposite result after the true one.")
    callback_tries: int = Field(default=3, ge=1, le=10, description="Maximum attempts to deliver a result.")
    callback_timeout_seconds: float = Field(default=15.0, gt=0, le=600, description="Time limit of one attempt.")
    callback_pauses_seconds: list[Seconds] = Field(
        default=[1.0, 2.0], min_length=1, description="Pauses between attempts; the last value repeats."
    )

    not_found_seconds: Seconds = Field(
        default=0.0, description="record-info responds 404 for this long after the submit."
    )
    record_error: RecordFault = Field(default=0.0, description="record-info responds with a server error.")
    record_hang_up: RecordFault = Field(default=0.0, description="record-info cuts the connection.")

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        if self.delay_seconds[0] > self.delay_seconds[1]:
            raise ValueError("delay_seconds must be [min, max], the smaller first")
        for names in (SUBMIT_FAULTS, OUTCOMES, RECORD_FAULTS):
            total = sum(self.chances(names).values())
            if total > 1 + 1e-9:
                raise ValueError(
                    f"only one of {', '.join(names)} can happen, so their sum must be at most 1, not {total:g}"
                )
        return self

    def chances(self, names: tuple[str, ...]) -> dict[str, float]:
        """Return the probabilities of some faults."""
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build a behavior from field values; raises `BehaviorError`."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise BehaviorError(error) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Build a behavior from a JSON object; raises `BehaviorError`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BehaviorError(error) from None


def _marked(mark: str) -> tuple[str, ...]:
    return tuple(name for name, field in Behavior.model_fields.items() if mark in field.metadata)


SUBMIT_FAULTS = _marked("submit")
"""Submit faults, of which at most one happens."""
OUTCOMES = _marked("outcome")
"""Unsuccessful outcomes of a task, of which at most one happens."""
RECORD_FAULTS = _marked("record")
"""Faults of record-info, of which at most one happens per poll."""
CALLBACK_FAULTS = _marked("callback")
"""Callback faults, which can happen together."""


def _problem(found: Mapping[str, Any]) -> dict[str, str]:
    messages = {
        "json_invalid": f"not JSON: {found['msg']}",
        "model_type": "not a JSON object",
        "extra_forbidden": f"unknown field; known fields: {', '.join(Behavior.model_fields)}",
    }
    field = ".".join(str(part) for part in found["loc"]) or "behavior"
    return {"field": field, "message": messages.get(found["type"], found["msg"].removeprefix("Value error, "))}
