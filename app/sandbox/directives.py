"""Directives inside a prompt: `[sandbox: item, item, ...]` says how to treat this one task.

An item is `word`, `word=value`, `word*count` or `word=value*count`; docs/sandbox.md says what each means.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from app.sandbox.behavior import OUTCOMES, RECORD_FAULTS, SUBMIT_FAULTS, Behavior, BehaviorError

ALIASES = {
    "delay": "delay_seconds",
    "slow": "slow_reply",
    "retry_after": "retry_after_seconds",
    "drop": "callback_drop",
    "repeat": "callback_repeat",
    "early": "callback_early",
    "late": "callback_late_seconds",
    "garbage": "callback_garbage",
    "wrong_task": "callback_wrong_task",
    "progress": "callback_progress",
    "reorder": "callback_reorder",
    "contradict": "callback_contradict",
    "not_found": "not_found_seconds",
}
"""Short words and the behaviour fields that they stand for."""

_CALLBACK_FAULTS = ("drop", "repeat", "early", "garbage", "wrong_task", "progress", "reorder", "contradict")
_FAULTS = (*SUBMIT_FAULTS, *OUTCOMES, *RECORD_FAULTS, *(f"callback_{name}" for name in _CALLBACK_FAULTS))
_SETTINGS = (
    "delay_seconds",
    "in_http_200",
    "proxy_accepts",
    "retry_after_seconds",
    "slow_seconds",
    "repeat_count",
    "callback_late_seconds",
    "not_found_seconds",
)
KNOWN_WORDS = ("fail", *ALIASES, *_FAULTS, *_SETTINGS)
"""Every word that a directive may hold."""

_AMOUNTS = {"repeat": "repeat_count", "slow": "slow_seconds"}

_DIRECTIVE = re.compile(r"\[\s*sandbox\s*:([^\]]*)(\]?)", re.IGNORECASE)
_ITEM = re.compile(r"(?P<word>[a-z0-9_]+)(?:\s*=\s*(?P<value>[^*\s]+))?(?:\s*\*\s*(?P<count>\d{1,6}))?", re.IGNORECASE)
_RANGE = re.compile(r"(\d*\.?\d+)-(\d*\.?\d+)")


class DirectiveError(ValueError):
    """A directive that can't be read; the text names the word and what is known."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a submit script: `count` submits of the prompt meet `fault` (None: all from here on)."""

    fault: str
    count: int | None
    accepts: bool | None = None


@dataclass(slots=True)
class Directives:
    """What the directives of one prompt ask for; `text` is the prompt without them."""

    text: str
    settings: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    script: list[Step] = field(default_factory=list)

    def step(self, nth: int) -> Step | None:
        """Find the script's entry for the n-th submit of this prompt, counted from 0."""
        for step in self.script:
            if step.count is None or nth < step.count:
                return step
            nth -= step.count
        return None

    def apply(self, behavior: Behavior, nth_submit: int = 0, nth_task: int = 0) -> Behavior:
        """Return the behaviour towards the n-th submit of this prompt, or task made from it, counted from 0.

        Raises `BehaviourError`.
        """
        changes: dict[str, Any] = {}
        for group, named in ((SUBMIT_FAULTS, bool(self.script)), (OUTCOMES, False), (RECORD_FAULTS, False)):
            if named or any(name in self.settings for name in group):
                changes.update(dict.fromkeys(group, 0))
        changes.update(self.settings)
        for name, limit in self.limits.items():
            nth = nth_submit if name in SUBMIT_FAULTS else nth_task
            # Questions to record-info are counted when they are asked.
            if name not in RECORD_FAULTS and nth >= limit:
                changes[name] = 0
        return Behavior.from_dict({**behavior.model_dump(), **changes}) if changes else behavior


def parse(prompt: str) -> Directives:
    """Read and take out the directives of a prompt; raises `DirectiveError`."""
    directives = Directives(text=" ".join(_DIRECTIVE.sub(" ", prompt).split()))
    for found in _DIRECTIVE.finditer(prompt):
        if not found[2]:
            raise DirectiveError("The sandbox directive has no closing bracket.")
        for item in found[1].split(","):
            if item.strip():
                _read_item(item.strip(), directives)
    try:
        directives.apply(Behavior())
    except BehaviorError as error:
        raise DirectiveError(f"The sandbox directive can't be: {error}.") from None
    return directives


def _read_item(item: str, directives: Directives) -> None:
    match = _ITEM.fullmatch(item)
    word = match["word"].lower() if match else item
    if match is None or word not in KNOWN_WORDS:
        raise DirectiveError(f"Unknown sandbox directive {word!r}; known are {', '.join(KNOWN_WORDS)}.")
    value, count = match["value"], int(match["count"]) if match["count"] else None
    if word == "fail":
        word, value = f"fail_{value}", None
        if word not in OUTCOMES:
            raise DirectiveError("The sandbox directive 'fail' takes fail=400, fail=500 or fail=501.")
    name = ALIASES.get(word, word)
    if word in _AMOUNTS and value is not None:
        directives.settings[_AMOUNTS[word]], value = value, None
    if name in SUBMIT_FAULTS and (value is None or value in {"accepted", "lost"}):
        directives.script.append(Step(name, count, _accepts(name, value)))
        return
    if name in _FAULTS:
        directives.settings[name] = 1 if value is None else value
    elif value is None or count is not None:
        raise DirectiveError(f"The sandbox directive {word!r} needs a value and takes no count, as in {word}=2.")
    else:
        numbers = _RANGE.fullmatch(value) if name == "delay_seconds" else None
        single = (value, value) if name == "delay_seconds" else value
        directives.settings[name] = numbers.groups() if numbers else single
    if count is not None:
        directives.limits[name] = count


def _accepts(name: str, value: str | None) -> bool | None:
    if value is not None and not name.startswith("proxy_"):
        raise DirectiveError(f"Only proxy_502 and proxy_504 can be 'accepted' or 'lost', {name!r} can't.")
    return None if value is None else value == "accepted"
