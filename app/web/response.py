"""JSON responses."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema
from starlette.responses import Response

from app.shapes.base import encode

S = TypeVar("S")


class ShapeResponse(Response, Generic[S]):
    """Sends a shape. As a return annotation, it documents it."""

    media_type = "application/json"

    def __init__(
        self,
        shape: S,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(shape, status_code, headers, media_type)

    def render(self, content: Any) -> bytes:
        """Encode the shape."""
        return encode(content)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of S for `ShapeResponse[S]`, for FastAPI."""
        return handler.generate_schema(get_args(source)[0])
