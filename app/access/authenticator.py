"""Who may call: by API key or browser token, and the rules for running without any key."""

import re

import structlog

from app.access.credentials import TokenCredential
from app.access.keyring import Keyring
from app.clock import Clock
from app.db import key_store
from app.db.engine import Database
from app.domain.browser_token import TOKEN_PREFIX, BrowserToken, BrowserTokens, new_token_id
from app.domain.caller import Caller
from app.domain.key import DEFAULT_PROJECT, ApiKey, hash_secret, new_key_id, new_secret
from app.errors import ConfigurationError, Unauthorized
from app.settings import Settings
from app.writing.single_flight import Refresh

_KEY = re.compile(r"[\x21-\x7e]{8,200}")
_ANYBODY = Caller(DEFAULT_PROJECT)
_log = structlog.get_logger(__name__)


class Authenticator:
    """Decides who a request comes from."""

    def __init__(
        self, *, database: Database, clock: Clock, settings: Settings, keyring: Keyring, tokens: BrowserTokens
    ) -> None:
        self._database = database
        self._clock = clock
        self._keyring = keyring
        self._tokens = tokens
        self._auth = settings.auth
        self._keys_exist = False
        self._is_checked = False
        self._checked = Refresh(self._check, lambda: clock.now() / 1000)

    async def is_open(self) -> bool:
        """Whether no key is needed: by `AUTH=none`, or as long as no key ever existed."""
        if self._auth is not None:
            return self._auth == "none"
        # Keys never un-exist; while there is none, somebody may create the first in another process.
        if not self._keys_exist:
            await self._checked.refresh()
        return not self._keys_exist

    async def _check(self) -> None:
        self._keys_exist = await self._database.read(key_store.any_exist)
        if self._keys_exist and self._is_checked:
            _log.warning("keys_required", note="An API key was created: from now on every call needs one.")
        self._is_checked = True

    async def authenticate(self, authorization: str | None) -> Caller:
        """Tell who calls, by the `Authorization` header; raises `Unauthorized`.

        A token counts as one even while no key is needed: whoever sends it means its limits.
        """
        scheme, _, rest = (authorization or "").partition(" ")
        secret = rest.strip() if scheme.lower() == "bearer" else ""
        if secret.startswith(TOKEN_PREFIX):
            return await self.by_token(secret)
        if await self.is_open():
            return _ANYBODY
        if not secret:
            raise Unauthorized("Send an API key or a browser token as 'Authorization: Bearer <key>'.")
        credential = await self._keyring.by_secret(secret) if _KEY.fullmatch(secret) else None
        if credential is None:
            raise Unauthorized("This API key is unknown or was revoked.")
        return Caller(credential.key.project, key_id=credential.key.id, credential=credential)

    async def by_token(self, text: str) -> Caller:
        """Tell who calls, by a browser token; raises `Unauthorized`."""
        token = self._tokens.verify(text)
        if token is None:
            raise Unauthorized("This browser token is not one of ours, or was changed on its way.")
        if self._clock.now() >= token.expires_at:
            raise Unauthorized("This browser token has expired; get a new one.")
        is_open = await self.is_open()
        if token.key_id is None:
            if not is_open:
                raise Unauthorized("This browser token was made before keys were required; get a new one.")
            credential = None
        else:
            credential = await self._keyring.by_id(token.key_id)
            if credential is None:
                raise Unauthorized("The API key that made this browser token was revoked.")
        return Caller(
            token.project,
            token.subject,
            key_id=None if is_open else token.key_id,
            token=token,
            credential=TokenCredential(credential, token.expires_at, self._clock),
        )

    def issue_token(self, caller: Caller, *, subject: str, seconds: int, max_tasks: int) -> tuple[str, int]:
        """Make a browser token for a subject of the caller's project; returns it with its expiry in milliseconds."""
        expires_at = self._clock.now() + seconds * 1000
        token = BrowserToken(new_token_id(), caller.project, subject, caller.key_id, max_tasks, expires_at)
        _log.info("browser_token", project=caller.project, key_id=caller.key_id, seconds=seconds, max_tasks=max_tasks)
        return self._tokens.sign(token), expires_at


async def check_start(database: Database, settings: Settings) -> bool:
    """Refuse to run open where others could reach the service; returns whether it will run open.

    Raises `ConfigurationError`.
    """
    if settings.auth is not None:
        return settings.auth == "none"
    if await database.read(key_store.any_exist):
        return False
    if not settings.is_loopback_only:
        raise ConfigurationError(
            "AUTH",
            "is not set, no API key exists, and HOST or PUBLIC_BASE_URL is not a loopback address",
            "create a key (python -m app keys create NAME), set BOOTSTRAP_API_KEY, or set AUTH=none to let everybody in",
        )
    return True


async def create_key(
    database: Database, clock: Clock, name: str, project: str, secret: str | None = None
) -> tuple[ApiKey, str]:
    """Create a key; returns it with its secret, which nothing can show again."""
    secret = secret or new_secret()
    key = ApiKey(new_key_id(), project, name, clock.now())
    await database.write(lambda connection: key_store.add(connection, key, hash_secret(secret)))
    return key, secret


async def ensure_bootstrap_key(database: Database, clock: Clock, secret: str) -> None:
    """Make sure that this very key exists in the default project; one that was revoked stays revoked."""
    key = ApiKey(new_key_id(), DEFAULT_PROJECT, "bootstrap", clock.now())
    if await database.write(lambda connection: key_store.add(connection, key, hash_secret(secret))):
        _log.info("bootstrap_key_created", key_id=key.id)


async def list_keys(database: Database) -> list[ApiKey]:
    """List all keys, oldest first."""
    return await database.read(key_store.list_all)


async def revoke_key(database: Database, clock: Clock, key_id: str) -> bool:
    """Revoke a key; False if there is none with this id."""
    return await database.write(lambda connection: key_store.revoke(connection, key_id, clock.now()))
