"""Health of the service, for operators and orchestrators."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from app.shapes.base import Omitted, unset

StorageState = Literal["ok", "unreachable", "unwritable"]


@dataclass(slots=True)
class Health:
    """The process responds."""

    status: Literal["ok"] = "ok"


@dataclass(slots=True)
class UpstreamReadiness:
    """The upstream as this replica sees it."""

    mode: Literal["live", "sandbox"]
    state: Annotated[str, Field(description="`ok`, or `held` while the upstream refuses the account.")] = "ok"
    reason: Annotated[str | Omitted, Field(description="Why the upstream refuses the account.")] = field(
        default_factory=unset
    )


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
