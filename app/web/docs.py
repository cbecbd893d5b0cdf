"""The API's interactive description: Swagger UI, its files served from here, under a policy that lets in no others."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from app.web import openapi
from app.web.dependencies import authenticator_of

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CACHED = {"Cache-Control": "no-cache"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nanobanana-gateway: API</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Nothing but what the page itself says goes into its configuration: not the query, which a link could write.
_SCRIPT = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  queryConfigEnabled: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
_DIRECTORY = Path(str(files("fastapi_offline"))) / "static"
_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def get_document(request: Request) -> Response:
    """Return the API's document; without keys, authentication is optional in it."""
    written: dict[str, Any] = request.app.openapi()
    is_open = await authenticator_of(request).is_open()
    return JSONResponse(openapi.for_open_service(written) if is_open else written)


@router.get("/docs")
async def page() -> Response:
    """Show the page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY, **_CACHED})


@router.get("/docs/start.js")
async def script() -> Response:
    """Start Swagger UI; a file of its own, as the policy lets in no script inside the page."""
    return Response(_SCRIPT, media_type="text/javascript", headers=_CACHED)


@router.get("/docs/{name}")
async def file(name: str) -> Response:
    """Return one of the files that the page needs."""
    if name not in _FILES:
        raise HTTPException(404)
    return FileResponse(_DIRECTORY / name, headers=_CACHED)
