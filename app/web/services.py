"""Looks up the process's services by type."""

from typing import Any, TypeVar, cast

from fastapi import Depends, Request

S = TypeVar("S")
Services = dict[type, object]


def by_type(*services: object) -> Services:
    """Map services by type; there must be one per type."""
    return {type(service): service for service in services}


def service(request: Request, kind: type[S]) -> S:
    """Return the process's service of this type."""
    return cast("S", request.scope["state"]["services"][kind])


def provide(kind: type[S]) -> Any:
    """Return a dependency on the service of this type."""

    # Async, because FastAPI would run a plain function in a thread.
    async def get(request: Request) -> S:
        return service(request, kind)

    return Depends(get)
