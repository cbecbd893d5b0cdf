"""Making browser tokens."""

import structlog

from app.clock import Clock
from app.domain.browser_token import BrowserToken, BrowserTokens, new_token_id
from app.domain.caller import Caller

_log = structlog.get_logger(__name__)


class TokenIssuer:
    """Makes tokens on behalf of callers with an API key (or, while the service is open, of anybody)."""

    def __init__(self, *, tokens: BrowserTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def make(self, caller: Caller, *, subject: str, seconds: int, max_tasks: int) -> tuple[str, int]:
        """Make a token for a subject of the caller's project; returns it with when it expires (milliseconds)."""
        expires_at = self._clock.now() + seconds * 1000
        token = BrowserToken(new_token_id(), caller.project, subject, caller.key_id, max_tasks, expires_at)
        _log.info("browser_token", project=caller.project, key_id=caller.key_id, seconds=seconds, max_tasks=max_tasks)
        return self._tokens.sign(token), expires_at
