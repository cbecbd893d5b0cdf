"""The lane: a way past the application for requests that come in crowds and have small bodies."""

from typing import Protocol

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""
Answer = tuple[int, Headers, bytes]
"""Status, headers, body."""


class Lane(Protocol):
    """Answers POST requests with small bodies of announced length; others go to the application, which answers alike."""

    def recognize(self, target: bytes) -> str | None:
        """Tell whom a request to this target (path and query as they came) is for; None if it doesn't take the lane."""
        ...

    async def answer(self, addressee: str, headers: Headers, body: bytes, client: tuple[str, int] | None) -> Answer:
        """Answer a request; whatever happens, there is an answer."""
        ...
