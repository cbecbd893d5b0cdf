"""Serves Swagger UI from local files, under a strict policy."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import FileResponse, JSONResponse, Response

from app.web import openapi
from app.web.dependencies import authenticator_of

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CACHED = {"Cache-Control": "no-cache"}
_PAGE = Path(__file__).parent / "swagger" / "index.html"
# Generated from docs/reference/errors.md by `make docs`.
_ERRORS = _PAGE.parent / "errors.html"
_LIBRARY = Path(str(files("fastapi_offline"))) / "static"
_FILES = {
    "start.js": _PAGE.parent,
    **dict.fromkeys(("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"), _LIBRARY),
}

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def get_document(request: Request) -> Response:
    """Return the OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    is_open = await authenticator_of(request).is_open()
    return JSONResponse(openapi.for_open_service(document) if is_open else document)


@router.get("/docs")
async def get_page() -> Response:
    """Return the Swagger UI page."""
    return FileResponse(_PAGE, headers={"Content-Security-Policy": _POLICY, **_CACHED})


@router.get("/docs/errors")
async def get_errors() -> Response:
    """Return the page that explains each error code."""
    return FileResponse(_ERRORS, headers={"Content-Security-Policy": _POLICY, **_CACHED})


@router.get("/docs/{name}")
async def get_file(name: str) -> Response:
    """Return a file that the page loads."""
    if name not in _FILES:
        raise HTTPException(404)
    return FileResponse(_FILES[name] / name, headers=_CACHED)
