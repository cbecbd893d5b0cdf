"""Authentication by API key or browser token, or without keys."""

import re
from dataclasses import dataclass, field

import structlog

from app.access.credentials import TokenCredential
from app.access.keyring import Keyring
from app.clock import Clock
from app.db import cluster_state, key_store
from app.db.engine import Database
from app.domain.browser_token import TOKEN_PREFIX, BrowserToken, BrowserTokens, new_token_id
from app.domain.caller import Caller
from app.domain.key import DEFAULT_PROJECT, ApiKey, hash_secret, new_key_id, new_secret
from app.errors import ConfigurationError, Unauthorized
from app.settings import Settings
from app.writing.single_flight import Refresh

_KEY = re.compile(r"[\x21-\x7e]{8,200}")
_ANONYMOUS = Caller(DEFAULT_PROJECT)
_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class Authenticator:
    """Identifies callers and issues browser tokens."""

    database: Database
    clock: Clock
    auth: str | None
    keyring: Keyring
    tokens: BrowserTokens
    _keys_exist: bool = field(default=False, init=False)
    _is_checked: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._checked = Refresh(self._check, lambda: self.clock.now() / 1000)

    async def is_open(self) -> bool:
        """Whether the service runs without keys.

        True with `AUTH=none`, or if `AUTH` is unset and no API key exists yet.
        """
        if self.auth is not None:
            return self.auth == "none"
        # Keys are never deleted, only revoked. Until one exists, another process can create it at any time.
        if not self._keys_exist:
            await self._checked.refresh()
        return not self._keys_exist

    async def _check(self) -> None:
        self._keys_exist = await self.database.read(key_store.any_exist)
        if self._keys_exist and self._is_checked:
            _log.warning("keys_required", reason="An API key was created. Every request now needs one.")
        self._is_checked = True

    async def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller by `Authorization` header; raises `Unauthorized`.

        The limits of a browser token apply even if no key is needed.
        """
        scheme, _, rest = (authorization or "").partition(" ")
        secret = rest.strip() if scheme.lower() == "bearer" else ""
        if secret.startswith(TOKEN_PREFIX):
            return await self.by_token(secret)
        if await self.is_open():
            return _ANONYMOUS
        if not secret:
            raise Unauthorized(_reason(authorization))
        credential = await self.keyring.by_secret(secret) if _KEY.fullmatch(secret) else None
        if credential is None:
            raise Unauthorized("This API key is unknown or was revoked.")
        return Caller(credential.key.project, key_id=credential.key.id, credential=credential)

    async def by_token(self, text: str) -> Caller:
        """Return the caller by a browser token; raises `Unauthorized`."""
        token = self.tokens.verify(text)
        if token is None:
            raise Unauthorized("This browser token is invalid: it was changed or signed with another secret.")
        if self.clock.now() >= token.expires_at:
            raise Unauthorized("This browser token has expired; get a new one.")
        is_open = await self.is_open()
        if token.key_id is None and not is_open:
            raise Unauthorized("This browser token was created before API keys were required; get a new one.")
        by_key = None if token.key_id is None else await self.keyring.by_id(token.key_id)
        if token.key_id is not None and by_key is None:
            raise Unauthorized("The API key that created this browser token was revoked.")
        return Caller(
            token.project,
            token.subject,
            key_id=None if is_open else token.key_id,
            token=token,
            credential=TokenCredential(by_key, token.expires_at, self.clock),
        )

    def issue_token(self, caller: Caller, *, subject: str, seconds: int, max_tasks: int) -> tuple[str, int]:
        """Return a new browser token and its expiry in milliseconds."""
        expires_at = self.clock.now() + seconds * 1000
        token = BrowserToken(new_token_id(), caller.project, subject, caller.key_id, max_tasks, expires_at)
        _log.info("browser_token", project=caller.project, key_id=caller.key_id, seconds=seconds, max_tasks=max_tasks)
        return self.tokens.sign(token), expires_at


def _reason(authorization: str | None) -> str:
    """Explain why an `Authorization` header contains no key."""
    expected = "send an API key or a browser token as 'Authorization: Bearer <key>'"
    if authorization is None:
        return f"The Authorization header is missing; {expected}."
    if authorization.strip().lower() == "bearer":
        return f"The Authorization header contains no key; {expected}."
    # Don't quote the header, because it may be the bare key.
    return f"The Authorization header must begin with 'Bearer '; {expected}."


async def check_start(database: Database, settings: Settings) -> bool:
    """Whether the service runs without keys; raises `ConfigurationError`.

    Without keys, `AUTH` must be set explicitly if other machines can reach the service.
    """
    if settings.auth is not None:
        return settings.auth == "none"
    if settings.bootstrap_api_key is not None or await database.read(
        lambda connection: cluster_state.exists(connection) and key_store.any_exist(connection)
    ):
        return False
    if not settings.is_loopback_only:
        raise ConfigurationError(
            "AUTH",
            "is not set, no API key exists, and HOST or PUBLIC_BASE_URL is not a loopback address",
            "create a key (python -m app keys create NAME), set BOOTSTRAP_API_KEY, or set AUTH=none to allow requests from anyone",
        )
    return True


async def create_key(
    database: Database, clock: Clock, name: str, project: str, secret: str | None = None
) -> tuple[ApiKey, str]:
    """Create a key; returns it and its secret, shown once."""
    secret = secret or new_secret()
    key = ApiKey(new_key_id(), project, name, clock.now())
    await database.write(lambda connection: key_store.add(connection, key, hash_secret(secret)))
    return key, secret


async def ensure_bootstrap_key(database: Database, clock: Clock, secret: str) -> None:
    """Create this key unless it exists, even if revoked."""
    key = ApiKey(new_key_id(), DEFAULT_PROJECT, "bootstrap", clock.now())
    if await database.write(lambda connection: key_store.add(connection, key, hash_secret(secret))):
        _log.info("bootstrap_key_created", key_id=key.id)


async def any_key_exists(database: Database) -> bool:
    """Whether a key was ever created."""
    return await database.read(key_store.any_exist)


async def has_active_key(database: Database) -> bool:
    """Whether a key exists that was not revoked."""
    return await database.read(key_store.any_active)


async def list_keys(database: Database) -> list[ApiKey]:
    """List all keys, oldest first."""
    return await database.read(key_store.list_all)


async def revoke_key(database: Database, clock: Clock, key_id: str) -> bool:
    """Revoke a key; returns whether it exists."""
    return await database.write(lambda connection: key_store.revoke(connection, key_id, clock.now()))
