"""Directives in a prompt, such as `[sandbox: delay=0.2, fail=501]`.

An item is `word`, `word=value`, `word*count` or `word=value*count`, as described in docs/reference/sandbox.md.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from app.sandbox.behavior import CALLBACK_FAULTS, OUTCOMES, RECORD_FAULTS, SUBMIT_FAULTS, Behavior, BehaviorError

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
"""Short words, and the behavior fields they set."""

_FAULTS = (*SUBMIT_FAULTS, *OUTCOMES, *RECORD_FAULTS, *CALLBACK_FAULTS)
_SETTINGS = ("in_http_200", "proxy_accepts", "slow_seconds", "repeat_count")
KNOWN_WORDS = tuple(dict.fromkeys(("fail", *ALIASES, *ALIASES.values(), *_FAULTS, *_SETTINGS)))
"""All words allowed in a directive."""

_AMOUNTS = {"repeat": "repeat_count", "slow": "slow_seconds"}

_DIRECTIVE = re.compile(r"\[\s*sandbox\s*:([^\]]*)(\]?)", re.IGNORECASE)
_ITEM = re.compile(r"(?P<word>[a-z0-9_]+)(?:\s*=\s*(?P<value>[^*\s]+))?(?:\s*\*\s*(?P<count>\d{1,6}))?", re.IGNORECASE)


class DirectiveError(ValueError):
    """An unreadable directive."""


@dataclass(frozen=True, slots=True)
class Step:
    """A fault for the next `count` submits, or all.

    `accepts` says whether the task is accepted despite a proxy error; None leaves that to chance.
    """

    fault: str
    count: int | None
    accepts: bool | None


@dataclass(slots=True)
class Directives:
    """A prompt's directives; `text` is the prompt without them.

    `limits` maps faults to the maximum number of times they happen.
    """

    text: str
    settings: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    script: list[Step] = field(default_factory=list)

    def step(self, nth: int) -> Step | None:
        """Return the step for the prompt's n-th submit (from 0)."""
        for step in self.script:
            if step.count is None or nth < step.count:
                return step
            nth -= step.count
        return None

    def apply(self, behavior: Behavior, nth_submit: int = 0, nth_task: int = 0) -> Behavior:
        """Return the behavior for a submit; raises `BehaviorError`.

        The prompt's submits and tasks are counted from 0.
        """
        changes: dict[str, Any] = dict.fromkeys(SUBMIT_FAULTS, 0) if self.script else {}
        for group in (SUBMIT_FAULTS, OUTCOMES, RECORD_FAULTS):
            if not self.settings.keys().isdisjoint(group):
                changes |= dict.fromkeys(group, 0)
        changes |= self.settings
        for name, limit in self.limits.items():
            # `draw_record_fault` limits the faults of record-info, per poll.
            if name not in RECORD_FAULTS and (nth_submit if name in SUBMIT_FAULTS else nth_task) >= limit:
                changes[name] = 0
        return Behavior.from_dict({**behavior.model_dump(), **changes}) if changes else behavior


def parse(prompt: str) -> Directives:
    """Separate a prompt from its directives; raises `DirectiveError`."""
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
        raise DirectiveError(f"Invalid sandbox directive: {error}.") from None
    return directives


def _read_item(item: str, directives: Directives) -> None:
    match = _ITEM.fullmatch(item)
    word = match["word"].lower() if match else item
    if match is None or word not in KNOWN_WORDS:
        raise DirectiveError(f"Unknown sandbox directive {word!r}; known words: {', '.join(KNOWN_WORDS)}.")
    name, value, count = ALIASES.get(word, word), match["value"], int(match["count"]) if match["count"] else None
    if word == "fail":
        name, value = f"fail_{value}", None
        if name not in OUTCOMES:
            raise DirectiveError("The sandbox directive 'fail' needs a code: fail=400, fail=500 or fail=501.")
    if word in _AMOUNTS and value is not None:
        directives.settings[_AMOUNTS[word]], value = value, None
    if name in SUBMIT_FAULTS and value in {None, "accepted", "lost"}:
        if value is not None and not name.startswith("proxy_"):
            raise DirectiveError(f"Only proxy_502 and proxy_504 can be 'accepted' or 'lost', not {name}.")
        directives.script.append(Step(name, count, None if value is None else value == "accepted"))
        return
    if name not in _FAULTS and (value is None or count is not None):
        raise DirectiveError(f"The sandbox directive {word!r} needs a value and no count, as in {word}=2.")
    directives.settings[name] = 1 if value is None else value
    if count is not None:
        directives.limits[name] = count
