"""Warnings at start about settings that are rarely intended."""

import structlog

from app.settings import Settings

_MIN_SECRET_CHARACTERS = 16
_GOOGLE_PREFIX = "AIza"
_log = structlog.get_logger(__name__)


def warn(settings: Settings, secrets: list[str], *, is_open: bool, has_key: bool) -> None:
    """Log all warnings.

    `is_open` means that the service runs without keys; `has_key` that an active key exists.
    """
    if is_open:
        _warn_of_open_service(settings)
    elif not has_key:
        reason = "Every request needs an API key, but there is no active key."
        _log.warning("no_key", reason=reason, hint="Create one: python -m app keys create NAME")
    if any(len(secret) < _MIN_SECRET_CHARACTERS for secret in secrets):
        reason = f"SECRET_KEY has fewer than {_MIN_SECRET_CHARACTERS} characters and can be guessed."
        _log.warning("short_secret", reason=reason)
    key = settings.nanobanana_api_key
    if key is not None and key.get_secret_value().startswith(_GOOGLE_PREFIX):
        reason = "NANOBANANA_API_KEY is a Google (Gemini) key. The upstream needs a key from nanobananaapi.ai."
        _log.warning("google_key", reason=reason)


def _warn_of_open_service(settings: Settings) -> None:
    where = "on this machine" if settings.is_loopback_only else "who can reach this address"
    why = "AUTH=none: keys are not checked. Anyone" if settings.auth == "none" else "No API keys: anyone"
    reason = f"{why} {where} can submit tasks. Pages on other origins are blocked."
    hosts = ",".join([*(settings.allowed_hosts or ["loopback"]), *settings.own_hosts])
    hint = "Allow other Host headers with ALLOWED_HOSTS, and pages with CORS_ORIGINS."
    _log.warning("open", reason=reason, hosts=hosts, hint=hint)
