"""The simulated vendor and the network in between."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from app.domain.callback import CallbackTokens
from app.domain.models import Model
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Failed, Generating, Report, Succeeded, TaskError, Unanswered, Unreadable


class Fate(Enum):
    """The possible outcomes of one submit."""

    ACCEPTED = auto()
    LOST_AFTER = auto()  # accepted, but the reply is lost
    LOST_BEFORE = auto()  # not accepted, and the reply is lost
    NOT_ARRIVED = auto()
    RATE_LIMITED = auto()
    BUSY = auto()  # the vendor's own error, perhaps about this task
    MAINTENANCE = auto()
    NO_CREDITS = auto()
    REFUSED = auto()
    CRASH = auto()  # accepted, and our process dies before it reads the reply


class Talk(Enum):
    """How record-info answers."""

    TRUE = auto()
    NOT_FOUND = auto()
    BROKEN = auto()
    UNREADABLE = auto()  # a success without a URL
    SILENT = auto()
    RATE_LIMITED = auto()


class Outage(Enum):
    """How the vendor treats all requests during an outage."""

    NONE = auto()
    SILENT = auto()  # time-outs, and pages of a gateway in between: the outcome of a submit is unknown
    SILENT_TO_SUBMITS = auto()  # as above, but other calls are answered
    UNREACHABLE = auto()
    BUSY = auto()
    MAINTENANCE = auto()
    RATE_LIMITED = auto()
    NO_CREDITS = auto()


_FATES = {
    Outage.SILENT: Fate.LOST_BEFORE,
    Outage.SILENT_TO_SUBMITS: Fate.LOST_BEFORE,
    Outage.UNREACHABLE: Fate.NOT_ARRIVED,
    Outage.BUSY: Fate.BUSY,
    Outage.MAINTENANCE: Fate.MAINTENANCE,
    Outage.RATE_LIMITED: Fate.RATE_LIMITED,
    Outage.NO_CREDITS: Fate.NO_CREDITS,
}
_TALKS = {
    Outage.SILENT: Talk.SILENT,
    Outage.UNREACHABLE: Talk.SILENT,
    Outage.BUSY: Talk.SILENT,
    Outage.RATE_LIMITED: Talk.RATE_LIMITED,
}
SENT_IN_VAIN = frozenset({Outage.SILENT, Outage.SILENT_TO_SUBMITS})
"""Outages in which each submit costs its task."""
AMBIGUOUS = frozenset({Fate.LOST_AFTER, Fate.LOST_BEFORE, Fate.CRASH})


@dataclass
class Order:
    """One accepted submit."""

    upstream_id: str
    task_id: str
    verdict: Succeeded | Failed
    is_finished: bool = False


def _error(code: ErrorCode, upstream_code: str) -> TaskError:
    return TaskError(code, f"the vendor says {upstream_code}", upstream_code)


@dataclass
class SimulatedVendor:
    """Replaces the upstream client; the simulation plans every answer."""

    tokens: CallbackTokens
    orders: dict[str, Order] = field(default_factory=dict)
    accepted_for: dict[str, list[str]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    """Tasks about which a success was reported that can't be read."""
    fate: Fate = Fate.ACCEPTED
    succeeds: bool = True
    talk: Talk = Talk.TRUE
    outage: Outage = Outage.NONE
    submits: int = 0
    polls: int = 0
    before_reply: Any = None
    """Awaited between accepting and answering a submit, for early callbacks and crashes."""

    @property
    def fate_now(self) -> Fate:
        """What happens to the next submit."""
        return _FATES.get(self.outage, self.fate)

    async def submit(self, model: Model, task_input: dict[str, Any], callback_url: str) -> SubmitOutcome:
        fate = self.fate_now
        self.submits += 1
        upstream_id = f"{len(self.orders):032x}"
        if fate in {Fate.ACCEPTED, Fate.LOST_AFTER, Fate.CRASH}:
            self._accept(upstream_id, callback_url)
        if self.before_reply is not None:
            await self.before_reply(fate, upstream_id)
        match fate:
            case Fate.ACCEPTED:
                return Accepted(upstream_id)
            case Fate.NOT_ARRIVED:
                return TryAgain(_error(ErrorCode.UPSTREAM_ERROR, "-"), pauses_account=True)
            case Fate.RATE_LIMITED:
                return TryAgain(_error(ErrorCode.UPSTREAM_ERROR, "429"), retry_after=2_000, pauses_account=True)
            case Fate.BUSY:
                return TryAgain(_error(ErrorCode.UPSTREAM_ERROR, "500"))
            case Fate.MAINTENANCE:
                return TryAgain(_error(ErrorCode.UPSTREAM_ERROR, "455"), pauses_account=True)
            case Fate.NO_CREDITS:
                return AccountRefused(_error(ErrorCode.INSUFFICIENT_CREDITS, "402"))
            case Fate.REFUSED:
                return Refused(_error(ErrorCode.INVALID_REQUEST, "400"))
        return Unknown("the connection broke")

    async def record_info(self, upstream_task_id: str) -> Report | Unanswered:
        self.polls += 1
        order, talk = self.orders.get(upstream_task_id), _TALKS.get(self.outage, self.talk)
        if talk is Talk.SILENT:
            return Unanswered("no answer")
        if talk is Talk.RATE_LIMITED:
            return Unanswered("too many", retry_after=3_600_000, is_clear=True)
        if talk is Talk.BROKEN or order is None or talk is Talk.NOT_FOUND:
            return Unreadable("no answer")
        if self.talk is Talk.UNREADABLE and order.is_finished:
            self.unreadable.add(order.task_id)
            return Unreadable("no URL", upstream_task_id, is_success=True)
        return order.verdict if order.is_finished else Generating(upstream_task_id)

    async def check(self) -> TaskError | None:
        is_silent = self.outage in {Outage.SILENT, Outage.UNREACHABLE}
        return TaskError(ErrorCode.UPSTREAM_ERROR, "no answer") if is_silent else None

    async def aclose(self) -> None:
        pass

    def _accept(self, upstream_id: str, callback_url: str) -> None:
        task_id = self.tokens.verify(callback_url.rsplit("/", 1)[1])
        assert task_id is not None, "invalid token in the callback URL"
        verdict: Succeeded | Failed = (
            Succeeded(upstream_id, (f"https://pictures.example/{upstream_id}.png",))
            if self.succeeds
            else Failed(upstream_id, _error(ErrorCode.GENERATION_FAILED, "501"))
        )
        self.orders[upstream_id] = Order(upstream_id, task_id, verdict)
        self.accepted_for.setdefault(task_id, []).append(upstream_id)
