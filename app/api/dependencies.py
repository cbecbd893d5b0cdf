"""What route functions are handed: the services, and who calls."""

import re
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app.api.large_bodies import LargeBodies, Room
from app.api.problems import Problem
from app.errors import TaskNotFound
from app.factory import Factory
from app.services.tasks import Caller

TASK_ID = re.compile(r"task_[0-9a-f]{32}")
# Only for the API's document; the header itself is judged by `Access`, which knows when no key is needed.
bearer = HTTPBearer(auto_error=False, description="An API key.")


async def get_factory(request: Request) -> Factory:
    """Return the process's services. (A plain function would be called in a thread.)"""
    return factory_of(request)


async def get_caller(request: Request) -> Caller:
    """Tell who calls; raises `Unauthorized`."""
    return await factory_of(request).access.authenticate(request.headers.get("authorization"))


CurrentCaller = Annotated[Caller, Depends(get_caller)]


async def get_task_id(task_id: str, _caller: CurrentCaller) -> str:
    """Return the id in the path; raises `TaskNotFound` for what can't be one (PostgreSQL chokes on a NUL in it)."""
    return known_form(task_id)


def factory_of(request: Request) -> Factory:
    """Return the process's services."""
    factory: Factory = request.app.state.factory
    return factory


def room_of(request: Request) -> Room:
    """Return what a body with pictures in it may take; base64 is a third longer, JSON's escapes a little more."""
    bodies: LargeBodies = request.app.state.large_bodies
    return bodies.room(factory_of(request).settings.max_image_bytes * 3 // 2)


def known_form(task_id: str) -> str:
    """Return a task's id; raises `TaskNotFound` for what can't be one."""
    if not TASK_ID.fullmatch(task_id):
        raise TaskNotFound("There is no task with this id.")
    return task_id


Services = Annotated[Factory, Depends(get_factory)]
TaskId = Annotated[str, Depends(get_task_id)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document these error answers of a route."""
    return {status: {"model": Problem} for status in statuses}
