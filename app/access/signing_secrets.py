"""The secrets that sign callback URLs and browser tokens."""

import hashlib
import os
import secrets
from functools import lru_cache

from app.db import cluster_state
from app.db.engine import Connection, Database
from app.errors import ConfigurationError
from app.settings import Settings

_FINGERPRINT = "secret_fingerprint"
_FILE = "secret_key"


def load_secrets(settings: Settings) -> list[str]:
    """Return the secrets, with the one for signing first.

    If none is set, which only SQLite allows, creates one in `DATA_DIR`. Raises `ConfigurationError`.
    """
    if settings.secret_key:
        return [secret.get_secret_value() for secret in settings.secret_key]
    path = settings.data_dir / _FILE
    draft = path.with_name(f"{_FILE}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            # Linking is atomic and fails if another process was first, so all processes read the same file.
            os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(
            "SECRET_KEY", f"is not set and can't be created in {settings.data_dir} ({error.strerror})", "set it"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            "SECRET_KEY", f"is not set and {path} can't be read ({reason})", "set it, or let this user read the file"
        ) from None
    if not secret:
        raise ConfigurationError("SECRET_KEY", f"is not set and {path} is empty", "set it, or delete the file")
    return [secret]


async def check_fingerprint(database: Database, known: list[str]) -> None:
    """Check that the secrets match a database that has tables.

    Raises `ConfigurationError`: replicas with different secrets would reject each other's callbacks.
    """

    def work(connection: Connection) -> None:
        recorded = cluster_state.get(connection, _FINGERPRINT) if cluster_state.exists(connection) else None
        if recorded is not None:
            _compare(recorded, [_fingerprint(secret) for secret in known])

    await database.read(work)


async def record_fingerprint(database: Database, known: list[str]) -> None:
    """Record the signing secret's fingerprint; raises like `check_fingerprint`."""
    fingerprints = [_fingerprint(secret) for secret in known]

    def work(connection: Connection) -> None:
        recorded = cluster_state.put_if_absent(connection, _FINGERPRINT, fingerprints[0])
        _compare(recorded, fingerprints)
        if recorded != fingerprints[0]:
            cluster_state.replace(connection, _FINGERPRINT, recorded, fingerprints[0])

    await database.write(work)


def _compare(recorded: str, known: list[str]) -> None:
    if recorded not in known:
        raise ConfigurationError(
            "SECRET_KEY",
            "does not match this database",
            "set the same value on every replica; to change it, see 'Rotate SECRET_KEY' in docs/how-to/operate.md",
        )


@lru_cache(maxsize=16)
def _fingerprint(secret: str) -> str:
    # Slow on purpose, so weak secrets can't be guessed quickly from the database.
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), b"nanobanana-gateway", 200_000).hex()[:32]
