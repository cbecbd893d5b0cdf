"""Routes for operators and orchestrators."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from app.operations.health import HealthCheck
from app.shapes.base import Omitted, unset
from app.web.response import ShapeResponse
from app.web.services import provide

router = APIRouter(tags=["operations"])


@dataclass(slots=True)
class Health:
    """The process responds."""

    status: Literal["ok"] = "ok"


@dataclass(slots=True)
class UpstreamReadiness:
    """The upstream as this replica sees it."""

    mode: Literal["live", "sandbox"]
    state: Annotated[str, Field(description="`ok`, or `held` while the upstream refuses the account.")]
    reason: Annotated[str | Omitted, Field(description="Why the account is refused.")] = field(default_factory=unset)


@dataclass(slots=True)
class Readiness:
    """Whether this replica can do its work."""

    status: Literal["ready", "degraded", "unavailable"]
    database: Annotated[str, Field(description="`ok`, or what is wrong.")]
    loops: Annotated[str, Field(description="`ok`, or the background loops that are stuck.")]
    storage: Annotated[Literal["ok", "unreachable"], Field(description="Whether image storage is reachable.")]
    upstream: UpstreamReadiness


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def get_health() -> ShapeResponse[Health]:
    """Check that the process responds."""
    return ShapeResponse(Health())


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "This replica can't do its work."}},
)
async def get_readiness(check: Annotated[HealthCheck, provide(HealthCheck)]) -> ShapeResponse[Readiness]:
    """Check whether this replica can do its work."""
    health = await check.check()
    upstream = UpstreamReadiness(health.upstream_mode, health.upstream_state)
    if health.upstream_reason:
        upstream.reason = health.upstream_reason
    shape = Readiness(health.status, health.database, health.loops, health.storage, upstream)
    if health.is_able:
        return ShapeResponse(shape)
    return ShapeResponse(shape, 503, {"Retry-After": "5"})


@router.get("/", include_in_schema=False)
async def home() -> Response:
    """Redirect browsers to the API docs."""
    return RedirectResponse("/docs")
