"""Health of the service, for operators and orchestrators."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from app.domain.account import AccountState
from app.domain.task import WaitReason
from app.shapes.base import Time

StorageState = Literal["ok", "unreachable", "unwritable"]


@dataclass(slots=True)
class Health:
    """The process responds."""

    status: Literal["ok"] = "ok"


@dataclass(slots=True)
class UpstreamReadiness:
    """The upstream as this replica sees it."""

    mode: Literal["live", "sandbox"]
    state: Annotated[
        AccountState,
        Field(description="`paused` while the upstream has problems, `held` while it rejects the account."),
    ] = AccountState.OK
    reason: Annotated[WaitReason | None, Field(description="Why nothing is sent, as in a task's `waiting`.")] = None
    until: Annotated[
        Time | None,
        Field(description="When the next attempt is made; null if it is in progress or waits for the next task."),
    ] = None


@dataclass(slots=True)
class Readiness:
    """Whether this replica can do its work."""

    status: Literal["ready", "degraded", "unavailable"]
    database: Annotated[str, Field(description="`ok`, or the problem.")]
    loops: Annotated[str, Field(description="`ok`, or the background loops that are stuck.")]
    storage: Annotated[
        StorageState,
        Field(description="`unreachable` if image storage fails, `unwritable` if temporary storage is full."),
    ]
    upstream: UpstreamReadiness
    clock: Annotated[
        str, Field(description="`ok`, or how far this machine's clock is from the database's, if over 30 s.")
    ] = "ok"
