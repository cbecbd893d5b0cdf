"""All settings, from environment variables and `.env`.

docs/reference/settings.md explains each one; a test compares the two.
"""

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.environment import load_environment
from app.errors import ConfigurationError
from app.setting_values import (
    MAX_PAUSES,
    MAX_RATE,
    MAX_WINDOW_SECONDS,
    ApiKey,
    DatabaseUrl,
    Hosts,
    HttpUrl,
    Lower,
    Networks,
    Origins,
    Rate,
    Schedule,
    Seconds,
    Secrets,
    StorageUrl,
    UpstreamKey,
    one_line,
    plain,
)

_RATE_ALLOWED = f"N/S (N from 1 to {MAX_RATE}, S up to {MAX_WINDOW_SECONDS} seconds) or 0"
_NETWORKS_ALLOWED = "comma-separated networks, such as 10.0.0.0/8,fd00::/8; all host bits zero"


class Settings(BaseSettings):
    """Typed settings; errors and docs show each field's description."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", validate_default=True, hide_input_in_errors=True
    )

    nanobanana_api_key: UpstreamKey | None = Field(None, description="the key of your upstream account")
    nanobanana_base_url: HttpUrl = Field("https://api.nanobananaapi.ai", description="an http(s) URL")
    public_base_url: HttpUrl | None = Field(None, description="an http(s) origin, such as https://images.example.com")
    host: str = Field("127.0.0.1", description="an address or host name")
    port: int = Field(8000, ge=0, le=65535, description="a port number, 0 to 65535")
    data_dir: Path = Field(Path("data"), description="a directory")
    database_url: DatabaseUrl | None = Field(None, description="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")
    secret_key: Secrets = Field([], description="one or more comma-separated secrets")
    auth: Annotated[Literal["keys", "none"] | None, Lower] = Field(None, description="keys, none, or unset")
    bootstrap_api_key: ApiKey | None = Field(None, description="an API key of 8 to 200 visible ASCII characters")
    key_rate_limit: Rate = Field((600, 60.0), description=_RATE_ALLOWED)
    allowed_hosts: Hosts = Field(
        [], description="comma-separated host names or addresses, without ports, or *.example.com for its subdomains"
    )
    cors_origins: Origins = Field([], description="comma-separated origins, such as https://shop.example.com, not *")
    trusted_proxies: Networks = Field([], description=_NETWORKS_ALLOWED)
    upstream_rate_limit: Rate = Field((20, 10.0), description=_RATE_ALLOWED)
    upstream_concurrency: int = Field(16, ge=1, le=1024, description="a whole number, 1 to 1024")
    upstream_timeout_seconds: Seconds = Field(30, description="seconds, more than 0")
    submit_retries: int = Field(5, ge=1, le=100, description="a whole number, 1 to 100")
    hold_retry_seconds: Seconds = Field(60, description="seconds, more than 0")
    queue_timeout_seconds: Seconds = Field(86_400, description="seconds, more than 0")
    poll_after_seconds: Seconds | None = Field(None, description="seconds, more than 0")
    task_timeout_seconds: Seconds = Field(900, description="seconds, more than 0")
    webhook_retry_schedule: Schedule = Field(
        [5, 300, 1800, 7200, 18_000, 36_000, 36_000],
        description=f"1 to {MAX_PAUSES} comma-separated numbers of seconds, each more than 0, at most a week",
    )
    keep_images: bool = Field(default=True, description="true or false")
    storage_url: StorageUrl | None = Field(None, description="a directory, or s3://BUCKET or s3://BUCKET/PREFIX")
    max_image_bytes: int = Field(67_108_864, ge=1024, le=1024**3, description="a number of bytes, 1024 to 1073741824")
    max_upload_bytes: int = Field(26_214_400, ge=1024, le=1024**3, description="a number of bytes, 1024 to 1073741824")
    upload_bytes_per_day: int = Field(
        21_474_836_480, ge=0, le=1024**4, description="a number of bytes, 0 (no limit) to 1099511627776"
    )
    retention_days: float = Field(
        0, ge=0, le=36_500, allow_inf_nan=False, description="a number of days, or 0 to keep tasks forever"
    )
    event_retention_days: float = Field(
        0, ge=0, le=36_500, allow_inf_nan=False, description="a number of days, or 0 to keep events as long as tasks"
    )
    upload_ttl_seconds: Seconds = Field(86_400, description="seconds, more than 0")
    allow_networks: Networks = Field([], description=_NETWORKS_ALLOWED)
    log_format: Annotated[Literal["console", "json"], Lower] = Field("console", description="console or json")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = Field(
        "info", description="debug, info, warning or error"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        is_list = get_origin(cls.model_fields[info.field_name or ""].annotation) is list
        return plain(value) if is_list else one_line(plain(value))

    @model_validator(mode="after")
    def _secret_for_postgresql(self) -> Self:
        if self.is_postgresql and not self.secret_key:
            # Replicas share the database but no directory, so no replica can generate the secret for all.
            raise ConfigurationError(
                "SECRET_KEY", "is not set", "set the same secret on all replicas (openssl rand -hex 32)"
            )
        return self

    @property
    def is_sandbox(self) -> bool:
        """Whether the built-in sandbox replaces the upstream."""
        return self.nanobanana_api_key is None

    @property
    def is_postgresql(self) -> bool:
        """Whether the database is PostgreSQL (else SQLite)."""
        return self.database_url is not None and self.database_url.startswith("postgres")

    @property
    def local_url(self) -> str:
        """The URL of this process on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The origin used in links and callback URLs."""
        return self.public_base_url or self.local_url

    @property
    def path_prefix(self) -> str:
        """The path below which the service is public, or ""."""
        return urlsplit(self.base_url).path

    @property
    def own_origins(self) -> list[str]:
        """The public origin of this service, if set."""
        parts = urlsplit(self.public_base_url or "")
        return [f"{parts.scheme}://{parts.netloc}".lower()] if parts.netloc else []

    @property
    def own_hosts(self) -> list[str]:
        """The public host of this service, if set."""
        host = urlsplit(self.public_base_url or "").hostname
        return [host.rstrip(".")] if host else []

    @property
    def effective_poll_after_seconds(self) -> float:
        """`POLL_AFTER_SECONDS`, or a default that depends on callbacks."""
        if self.poll_after_seconds is not None:
            return self.poll_after_seconds
        return 60 if self.public_base_url else 3

    @property
    def is_loopback_only(self) -> bool:
        """Whether only clients on this machine can use the service."""
        public_host = urlsplit(self.public_base_url).hostname if self.public_base_url else None
        return is_loopback(self.host) and (public_host is None or is_loopback(public_host))


@lru_cache(maxsize=256)  # parsing an address takes longer than the rest of a request's checks
def is_loopback(host: str) -> bool:
    """Whether a host name or address always means this machine."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def setting_names() -> frozenset[str]:
    """Return the names of all settings, as environment variables."""
    return frozenset(name.upper() for name in Settings.model_fields)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` take precedence over the environment.

    Raises `ConfigurationError` without the value, which may be a secret.
    """
    load_environment(setting_names())
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        field = Settings.model_fields.get(name)
        allowed = field.description if field and field.description else ""
        problem = first["msg"].removeprefix("Value error, ")
        if len(first["loc"]) > 1:
            problem = f"entry {int(first['loc'][1]) + 1}: {problem}"
        raise ConfigurationError(name.upper(), f"is invalid ({problem})", f"allowed: {allowed}") from None


def database_url(settings: Settings) -> str:
    """Return `DATABASE_URL`, or the SQLite file in `DATA_DIR`."""
    return settings.database_url or f"sqlite:///{Path(settings.data_dir) / 'gateway.db'}"
