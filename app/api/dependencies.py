"""What route functions are handed: the services, and who calls."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app.api.problems import Problem
from app.factory import Factory
from app.services.tasks import Caller

# Only for the API's document; the header itself is judged by `Access`, which knows when no key is needed.
bearer = HTTPBearer(auto_error=False, description="An API key.")


def get_factory(request: Request) -> Factory:
    """Return the process's services."""
    factory: Factory = request.app.state.factory
    return factory


async def get_caller(request: Request) -> Caller:
    """Tell who calls; raises `Unauthorized`."""
    return await get_factory(request).access.authenticate(request.headers.get("authorization"))


Services = Annotated[Factory, Depends(get_factory)]
CurrentCaller = Annotated[Caller, Depends(get_caller)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document these error answers of a route."""
    return {status: {"model": Problem} for status in statuses}
