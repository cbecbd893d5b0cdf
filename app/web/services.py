"""Services of the process, looked up by type."""

from typing import Any, TypeVar, cast

from fastapi import Depends, Request

S = TypeVar("S")


class Services:
    """Services by type, at most one of each."""

    def __init__(self, *services: object) -> None:
        self._by_type = {type(service): service for service in services}

    def __getitem__(self, kind: type[S]) -> S:
        return cast("S", self._by_type[kind])


def service(request: Request, kind: type[S]) -> S:
    """Return the process's service of this type."""
    services: Services = request.scope["state"]["services"]
    return services[kind]


def provide(kind: type[S]) -> Any:
    """Return a dependency on the service of this type."""

    # FastAPI would call a plain function in a thread.
    async def get(request: Request) -> S:
        return service(request, kind)

    return Depends(get)
