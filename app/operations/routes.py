"""Routes for operators and orchestrators."""

from typing import Annotated

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from app.operations.health import HealthCheck
from app.settings import Settings
from app.shapes.health import Health, Readiness
from app.web.response import ShapeResponse
from app.web.services import provide

router = APIRouter(tags=["operations"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def get_health() -> ShapeResponse[Health]:
    """Check that the process responds."""
    return ShapeResponse(Health())


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Readiness, "description": "This replica can't do its work."}})
async def get_readiness(check: Annotated[HealthCheck, provide(HealthCheck)]) -> ShapeResponse[Readiness]:
    """Check whether this replica can do its work."""
    readiness = await check.check()
    if readiness.status == "unavailable":
        return ShapeResponse(readiness, 503, {"Retry-After": "5"})
    return ShapeResponse(readiness)


@router.get("/", include_in_schema=False)
async def home(settings: Annotated[Settings, provide(Settings)]) -> Response:
    """Redirect browsers to the API docs."""
    return RedirectResponse(f"{settings.path_prefix}/docs")
