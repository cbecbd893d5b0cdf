"""Direct routes respond as FastAPI would."""

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import TaskNotFound
from app.web import problems
from app.web.direct_routes import DirectRoutes

called: list[str] = []
router = APIRouter(prefix="/things", dependencies=[Depends(lambda: called.append("framework"))])


@router.get("/{name}")
async def get_thing(request: Request, name: str) -> Response:
    called.append("endpoint")
    if name == "missing":
        raise TaskNotFound("There is no such thing.")
    return JSONResponse([name, request.query_params.get("a"), request.scope["route"].path])


@pytest.mark.parametrize(
    ("method", "path", "is_direct"),
    [
        ("GET", "/things/one", True),
        ("GET", "/things/o%6Ee?a=b", True),
        ("GET", "/things/missing", True),
        ("POST", "/things/one", False),
        ("GET", "/things/", False),
        ("GET", "/things/one/more", False),
        ("GET", "/things/one%0A", True),
    ],
)
async def test_a_direct_route_responds_like_fastapi(method: str, path: str, is_direct: bool) -> None:
    framework = FastAPI(redirect_slashes=False)
    problems.install(framework)
    framework.include_router(router)
    direct = DirectRoutes(framework, routes=router.routes, endpoints=[get_thing])
    answers = []
    for app in (framework, direct):
        called.clear()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answer = await client.request(method, path)
        answers.append((answer.status_code, answer.json(), answer.headers["content-type"], answer.headers.get("allow")))
    assert answers[0] == answers[1]
    assert called == (["endpoint"] if is_direct else [])
