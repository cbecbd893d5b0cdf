"""All settings, from environment variables and `.env`.

docs/reference/settings.md explains each; a test compares the two.
"""

import ipaddress
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from app.errors import ConfigurationError

_MAX_RATE = 10_000
_MAX_WINDOW_SECONDS = 86_400
_MAX_PAUSES = 20
_MAX_PAUSE_SECONDS = 7 * 86_400
_TOKEN_PREFIX = "nbt_"  # noqa: S105 -- distinguishes browser tokens from keys


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _rate(value: object) -> object:
    """Parse `N/S`; `0` means no limit."""
    if not isinstance(value, str):
        return value
    if value.strip() == "0":
        return None
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*", value)
    if not match or not 1 <= int(match[1]) <= _MAX_RATE or not 0 < float(match[2]) <= _MAX_WINDOW_SECONDS:
        raise ValueError("invalid rate")
    return int(match[1]), float(match[2])


def _host(text: str) -> str:
    """Parse a host name, `*.` pattern or address, without port."""
    name = text.lower().removesuffix(".")
    if re.fullmatch(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        return name
    try:
        ipaddress.IPv6Address(name.strip("[]"))
    except ValueError:
        raise ValueError("not a host name or address") from None
    return name.strip("[]")


def _origin(text: str) -> str:
    """Parse an origin; returns it as browsers send it."""
    match = re.fullmatch(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?/?", text.lower())
    if match is None:
        raise ValueError("would allow every page on the web" if text == "*" else "not an origin")
    scheme, host, port = match.groups()
    is_default = port is None or int(port) == {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{int(port)}"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Hosts = Annotated[list[Annotated[str, AfterValidator(_host)]], NoDecode, BeforeValidator(_split)]
Origins = Annotated[list[Annotated[str, AfterValidator(_origin)]], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[list[SecretStr], NoDecode, BeforeValidator(_split)]
Networks = Annotated[list[IPvAnyNetwork], NoDecode, BeforeValidator(_split)]
Rate = Annotated[tuple[int, float] | None, NoDecode, BeforeValidator(_rate)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400, allow_inf_nan=False)]
Schedule = Annotated[
    list[Annotated[float, Field(gt=0, le=_MAX_PAUSE_SECONDS, allow_inf_nan=False)]],
    Field(min_length=1, max_length=_MAX_PAUSES),
    NoDecode,
    BeforeValidator(_split),
]
_RATE_ALLOWED = f"N/S (N from 1 to {_MAX_RATE}, S up to {_MAX_WINDOW_SECONDS} seconds) or 0"
_NETWORKS_ALLOWED = "comma-separated networks, such as 10.0.0.0/8,fd00::/8; all host bits zero"


class Settings(BaseSettings):
    """Typed settings; errors and docs show each field's description."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", validate_default=True, hide_input_in_errors=True
    )

    nanobanana_api_key: SecretStr | None = Field(None, description="the key of your upstream account")
    nanobanana_base_url: str = Field("https://api.nanobananaapi.ai", description="an http(s) URL")
    public_base_url: str | None = Field(None, description="an http(s) origin, such as https://images.example.com")
    host: str = Field("127.0.0.1", description="an address or host name")
    port: int = Field(8000, ge=0, le=65535, description="a port number, 0 to 65535")
    data_dir: Path = Field(Path("data"), description="a directory")
    database_url: str | None = Field(None, description="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")
    secret_key: Secrets = Field([], description="one or more comma-separated secrets")
    auth: Annotated[Literal["keys", "none"] | None, BeforeValidator(_lower)] = Field(
        None, description="keys, none, or unset"
    )
    bootstrap_api_key: SecretStr | None = Field(None, description="an API key of 8 to 200 visible ASCII characters")
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
        description=f"1 to {_MAX_PAUSES} comma-separated numbers of seconds, each more than 0, at most a week",
    )
    keep_images: bool = Field(default=True, description="true or false")
    storage_url: str | None = Field(None, description="a directory, or s3://BUCKET or s3://BUCKET/PREFIX")
    max_image_bytes: int = Field(67_108_864, ge=1024, le=1024**3, description="a number of bytes, 1024 to 1073741824")
    max_upload_bytes: int = Field(26_214_400, ge=1024, le=1024**3, description="a number of bytes, 1024 to 1073741824")
    retention_days: float = Field(
        0, ge=0, le=36_500, allow_inf_nan=False, description="a number of days, or 0 to keep tasks forever"
    )
    upload_ttl_seconds: Seconds = Field(86_400, description="seconds, more than 0")
    allow_networks: Networks = Field([], description=_NETWORKS_ALLOWED)
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        "console", description="console or json"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="debug, info, warning or error"
    )

    @field_validator("nanobanana_base_url", "public_base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("not an http(s) URL")
        if parts.username or parts.password:
            raise ValueError("contains a user name or password")
        _ = parts.port  # raises ValueError if it is invalid
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _supported_database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.match(r"sqlite:///.+|postgres(ql)?://.+", value):
            raise ValueError("not the URL of a supported database")
        if ":memory:" in value:
            raise ValueError("an in-memory database, which connections can't share")
        if value.startswith("postgres"):
            try:
                _ = urlsplit(value).port
            except ValueError:
                raise ValueError("the host or port is invalid") from None
        return value

    @field_validator("storage_url")
    @classmethod
    def _supported_storage(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and not re.fullmatch(r"s3://[A-Za-z0-9._-]+(/[^?#\s]*)?", value):
            raise ValueError("neither a directory nor s3:// with a bucket")
        return value

    @field_validator("nanobanana_api_key")
    @classmethod
    def _stripped_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        # Secret files tend to end in a newline. In a header it would break every call, and redaction would not find the
        # key in the error message, where the newline is escaped.
        plain = value.get_secret_value().strip()
        if not re.fullmatch(r"[\x21-\x7e]+", plain):
            raise ValueError("contains spaces or non-ASCII characters")
        return SecretStr(plain)

    @field_validator("bootstrap_api_key")
    @classmethod
    def _usable_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[\x21-\x7e]{8,200}", value.get_secret_value()):
            raise ValueError("not 8 to 200 visible ASCII characters")
        if value is not None and value.get_secret_value().startswith(_TOKEN_PREFIX):
            raise ValueError(f"begins with {_TOKEN_PREFIX}, like browser tokens")
        return value

    @model_validator(mode="after")
    def _secret_for_postgresql(self) -> Self:
        if self.is_postgresql and not self.secret_key:
            # Replicas share the database but no directory, so none of them can generate the secret for all.
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
    def own_origins(self) -> list[str]:
        """The public origin of this service, if set."""
        parts = urlsplit(self.public_base_url or "")
        return [f"{parts.scheme}://{parts.netloc}".lower()] if parts.netloc else []

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


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` take precedence over the environment.

    Raises `ConfigurationError` without the value, which may be a secret.
    """
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
    except SettingsError as error:
        raise ConfigurationError("settings", "can't be read", str(error)) from None


def database_url(settings: Settings) -> str:
    """Return `DATABASE_URL`, or the URL of a file in `DATA_DIR`."""
    return settings.database_url or f"sqlite:///{Path(settings.data_dir) / 'gateway.db'}"
