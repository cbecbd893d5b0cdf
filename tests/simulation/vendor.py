"""The simulated vendor and the network in between."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from app.domain.callback import CallbackTokens
from app.domain.models import Model
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Failed, Generating, Report, Succeeded, TaskError, Unreadable


class Fate(Enum):
    """What happens to one submit."""

    ACCEPTED = auto()
    LOST_AFTER = auto()  # accepted, but the reply is lost
    LOST_BEFORE = auto()  # not accepted, and the reply is lost
    NOT_ARRIVED = auto()
    RATE_LIMITED = auto()
    BUSY = auto()
    NO_CREDITS = auto()
    REFUSED = auto()
    CRASH = auto()  # accepted, and our process dies before it reads the reply


class Talk(Enum):
    """How record-info answers."""

    TRUE = auto()
    NOT_FOUND = auto()
    BROKEN = auto()
    UNREADABLE = auto()  # a success without a URL


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
    before_reply: Any = None
    """Awaited between accepting and answering a submit, for early callbacks and crashes."""

    async def submit(self, model: Model, task_input: dict[str, Any], callback_url: str) -> SubmitOutcome:
        fate = self.fate
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
                return TryAgain(_error(ErrorCode.UPSTREAM_ERROR, "503"))
            case Fate.NO_CREDITS:
                return AccountRefused(_error(ErrorCode.INSUFFICIENT_CREDITS, "402"))
            case Fate.REFUSED:
                return Refused(_error(ErrorCode.INVALID_REQUEST, "400"))
        return Unknown("the connection broke")

    async def record_info(self, upstream_task_id: str) -> Report:
        order = self.orders.get(upstream_task_id)
        if self.talk is Talk.BROKEN or order is None or self.talk is Talk.NOT_FOUND:
            return Unreadable("no answer")
        if self.talk is Talk.UNREADABLE and order.is_finished:
            self.unreadable.add(order.task_id)
            return Unreadable("no URL", upstream_task_id, is_success=True)
        return order.verdict if order.is_finished else Generating(upstream_task_id)

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
