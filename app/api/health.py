"""Routes for whoever runs the service."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from app.services.health import HealthCheck

router = APIRouter(tags=["operations"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "This replica can't do its work."}})
async def readyz(request: Request) -> Response:
    """Tell whether this replica can do its work, and which upstream it speaks to."""
    check: HealthCheck = request.app.state.health
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
