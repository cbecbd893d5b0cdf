"""Routes for whoever runs the service."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from app.services.health import HealthCheck

router = APIRouter(tags=["operations"])


class UpstreamView(BaseModel):
    """The upstream as this replica sees it."""

    mode: Literal["live", "sandbox"]
    state: str = Field(examples=["ok", "held"])
    reason: str | None = Field(None, description="Why the account is held.")


class HealthView(BaseModel):
    """Whether this replica can do its work."""

    status: Literal["ready", "degraded", "unavailable"]
    database: str = Field(description="`ok`, or what is wrong.")
    loops: str = Field(description="`ok`, or which are stuck.")
    upstream: UpstreamView


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=HealthView,
    responses={503: {"model": HealthView, "description": "This replica can't do its work."}},
)
async def readyz(request: Request) -> Response:
    """Tell whether this replica can do its work, and which upstream it speaks to."""
    check: HealthCheck = request.scope["state"]["health"]
    health = await check.check()
    upstream: dict[str, Any] = {"mode": health.upstream_mode, "state": health.upstream_state}
    if health.upstream_reason:
        upstream["reason"] = health.upstream_reason
    body = {
        "status": health.status,
        "database": health.database,
        "loops": health.loops,
        "storage": health.storage,
        "upstream": upstream,
    }
    headers = {} if health.is_able else {"Retry-After": "5"}
    return JSONResponse(body, status_code=200 if health.is_able else 503, headers=headers)


@router.get("/", include_in_schema=False)
async def home() -> Response:
    """Lead whoever opens the service in a browser to what there is to see."""
    return RedirectResponse("/docs")
