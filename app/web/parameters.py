"""Parameters declared once for both parsing and OpenAPI."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from app.errors import InvalidRequest
from app.web.headers import header

T = TypeVar("T")


class Parameter(Generic[T]):
    """A header or query parameter of a Pydantic type.

    Direct routes use these instead of FastAPI's dependencies.
    """

    def __init__(
        self, name: str, place: Literal["header", "query"], kind: Any, description: str, *, example: Any = None
    ) -> None:
        self.name = name
        self._is_header = place == "header"
        self._raw_name = name.lower().encode()
        self._type: TypeAdapter[T] = TypeAdapter(kind)
        self.document: dict[str, Any] = {
            "name": name,
            "in": place,
            "required": False,
            "schema": self._type.json_schema(),
            "description": description,
        }
        if example is not None:
            self.document["example"] = example

    def text(self, request: Request) -> str | None:
        """Return the text, or None; empty query parameters are unset."""
        if self._is_header:
            return header(request.scope, self._raw_name)
        # Few requests have a query, and even parsing an empty one takes time.
        return (request.query_params.get(self.name) or None) if request.scope["query_string"] else None

    def read(self, request: Request) -> T | None:
        """Return the parsed value, or None; raises `InvalidRequest`."""
        text = self.text(request)
        return None if text is None else self.parse(text)

    def parse(self, text: str) -> T:
        """Parse a value; raises `InvalidRequest`."""
        try:
            return self._type.validate_python(text)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise InvalidRequest.field(self.name, message) from None


def documented(*parameters: Parameter[Any]) -> dict[str, Any]:
    """Document parameters that a route reads itself, for `openapi_extra`."""
    return {"parameters": [parameter.document for parameter in parameters]}
