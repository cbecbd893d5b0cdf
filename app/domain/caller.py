"""Callers and their credentials."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from app.domain.browser_token import BrowserToken
from app.domain.task import Task
from app.errors import GatewayError

OnEnd = Callable[[GatewayError], None]


class Credential(Protocol):
    """A caller's credential, which may end during a request."""

    def until_over(self, on_end: OnEnd) -> AbstractContextManager[None]:
        """Call `on_end` with the reason when the credential ends."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """A project and, for browser tokens, one subject in it.

    `key_id` is the API key that authenticated the caller or created the token; None without keys.
    """

    project: str
    subject: str | None = None
    key_id: str | None = None
    token: BrowserToken | None = None
    credential: Credential | None = field(default=None, compare=False)

    def until_over(self, on_end: OnEnd) -> AbstractContextManager[None]:
        """Call `on_end` with the reason when the credential ends."""
        return nullcontext() if self.credential is None else self.credential.until_over(on_end)

    def owns(self, task: Task | None) -> bool:
        """Whether the caller may see a task."""
        return task is not None and task.project == self.project and self.subject in {None, task.subject}
