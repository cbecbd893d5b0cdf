"""Prepares the database, opens the port and serves until stopped."""

import asyncio
import fcntl
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

import structlog
from fastapi import FastAPI

from app import start_warnings
from app.access.authenticator import check_start, ensure_bootstrap_key, has_active_key
from app.access.signing_secrets import check_fingerprint, load_secrets, record_fingerprint
from app.db.engine.sqlite import sqlite_path
from app.domain.destination import DestinationRules
from app.environment import misspelled
from app.errors import ConfigurationError, ListenError, StorageUnavailable
from app.logging import configure_logs
from app.main import create_app, for_spare_connections, with_middleware
from app.outbound.environment import proxy_for, trust_store
from app.prepare import connect_database, migrate_database, prepare_data_dir
from app.server.limits import ConnectionLimits
from app.server.server import Server
from app.server.versions import untested_versions
from app.settings import Settings, database_url, setting_names
from app.storage.store import open_store
from app.web.open_requests import OpenLimits
from app.web.refusals import refuse

_LOCK_TIMEOUT_SECONDS = 5
_LOCK_PAUSE_SECONDS = 0.1
_BACKLOG = 2048
_GC_THRESHOLD_ALLOCATIONS = 10_000
_WANTED_FILES = 65_536
_RESERVED_FILES = 512
_log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises `ConfigurationError`."""
    for package, (installed, tested) in untested_versions().items():
        raise ConfigurationError(package, f"{installed} was not tested", f"install {tested}; see requirements.txt")
    prepare_data_dir(settings)
    secrets = load_secrets(settings)
    others = [settings.nanobanana_api_key, settings.bootstrap_api_key]
    configure_logs(
        settings.log_format, settings.log_level, [*secrets, *(s.get_secret_value() for s in others if s is not None)]
    )
    for name, meant in misspelled(setting_names()).items():
        hint = f"Did you mean {meant}?" if meant else "This is not a setting."
        _log.warning("unknown_setting", name=name, hint=hint)
    _check_outgoing(settings)
    allow_many_connections()
    with _only_process(settings):
        _serve_alone(settings, secrets)


def _serve_alone(settings: Settings, secrets: list[str]) -> None:
    # All checks come before the migration: a replica that can't run must not change the shared database.
    listener = bind(settings)
    is_open, has_key = asyncio.run(prepare(settings, secrets))
    listen(listener, settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    start_warnings.warn(settings, secrets, is_open=is_open, has_key=has_key)
    if settings.nanobanana_api_key is not None:
        _run(settings, listener, settings.nanobanana_base_url, settings.nanobanana_api_key.get_secret_value())
        return
    # Imported here because only a service without an upstream key needs it.
    inputs = import_module("app.sandbox.inputs").InputReader(
        DestinationRules(settings.allow_networks), public_url=settings.base_url, local_url=settings.local_url
    )
    server = import_module("app.sandbox.server").SandboxServer
    sandbox = server(state=settings.data_dir / "sandbox.db", inputs=inputs)
    sandbox.start()
    reason = "NANOBANANA_API_KEY is not set: using the built-in sandbox; images are fake and free."
    _log.warning("sandbox", reason=reason, address=sandbox.url)
    try:
        _run(settings, listener, sandbox.url, "sandbox")
    finally:
        sandbox.stop()


def _check_outgoing(settings: Settings) -> None:
    """Check certificates and proxies; raises `ConfigurationError`."""
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        trust_store()
    if not settings.is_sandbox:
        proxy_for(settings.nanobanana_base_url)


def allow_many_connections() -> None:
    """Raise the limit of open files for waits and streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _only_process(settings: Settings) -> Iterator[None]:
    """Lock the SQLite file; raises `ConfigurationError` if it is locked.

    Waits for another process to stop. The operating system releases the lock when the process ends.
    """
    if settings.is_postgresql:
        yield
        return
    path = sqlite_path(database_url(settings))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Resolved, because symbolic links name the same file.
        path = path.resolve()
        links = path.stat().st_nlink if path.exists() else 1
        file = path.with_name(f"{path.name}.lock").open("w")
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        raise ConfigurationError(
            "DATABASE_URL", f"names a file that can't be created ({_reason(error)})", "choose a writable directory"
        ) from None
    with file:
        if links > 1:
            # SQLite would keep a separate write-ahead log under each name.
            raise ConfigurationError(
                "DATABASE_URL",
                f"names a SQLite file that has {links} hard links ({path})",
                "remove the other hard links",
            )
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    name, verb = ("DATA_DIR", "has") if settings.database_url is None else ("DATABASE_URL", "names")
                    raise ConfigurationError(
                        name,
                        f"{verb} a SQLite file that another process is using ({path})",
                        f"stop it, set another {name}, or use PostgreSQL for several processes",
                    ) from None
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                break
        yield


async def prepare(settings: Settings, secrets: list[str]) -> tuple[bool, bool]:
    """Check the settings, then migrate the database.

    Returns whether the service runs without keys, and whether an active key exists.
    """
    database = await connect_database(settings)
    try:
        await check_fingerprint(database, secrets)
        is_open = await check_start(database, settings)
        await _check_storage(settings)
        await migrate_database(settings, database)
        await record_fingerprint(database, secrets)
        if settings.bootstrap_api_key is not None:
            await ensure_bootstrap_key(database, database.clock, settings.bootstrap_api_key.get_secret_value())
        return is_open, await has_active_key(database)
    finally:
        await database.aclose()


async def _check_storage(settings: Settings) -> None:
    """Check image storage; raises `ConfigurationError` if misconfigured."""
    try:
        await open_store(settings.storage_url, settings.data_dir).check()
    except StorageUnavailable:
        # Tasks and callbacks don't need storage, and images can be stored later.
        _log.warning(
            "storage_unreachable", reason="Image storage is unavailable. Images will be stored once it is back."
        )


def bind(settings: Settings) -> socket.socket:
    """Reserve the port; raises `ConfigurationError`. Nothing can connect before `listen`."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With protocol 0, the event loop would not disable Nagle's algorithm, which delays every response by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host.strip("[]"), settings.port))
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        listener.close()
        raise ListenError(settings.host, settings.port, error) from None
    return listener


def listen(listener: socket.socket, settings: Settings) -> None:
    """Open the port; raises `ConfigurationError` if another process was first."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(settings.host, settings.port, error) from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def make_server(settings: Settings, app: FastAPI, limits: ConnectionLimits | None = None) -> Server:
    """Create the server for the application and its middleware."""
    complete = with_middleware(settings, app)
    return Server(
        complete,
        limits=limits or connection_limits(),
        refuse=refuse,
        overloaded=for_spare_connections(settings, complete),
        on_stop=app.state.begin_stop,
    )


def connection_limits() -> ConnectionLimits:
    """Limit connections to leave file descriptors for other uses."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = ConnectionLimits()
    if files == resource.RLIM_INFINITY:
        return limits
    return ConnectionLimits(connections=min(limits.connections, max(files - _RESERVED_FILES, files // 2)))


def _run(settings: Settings, listener: socket.socket, upstream_url: str, upstream_key: str) -> None:
    limits = connection_limits()
    app = create_app(
        settings,
        upstream_url=upstream_url,
        upstream_key=upstream_key,
        open_limits=OpenLimits.of_connections(limits.connections),
    )
    server = make_server(settings, app, limits)
    # Objects that exist now live until the end. Scanning them for garbage would take a tenth of a busy service's time
    # and delay requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD_ALLOCATIONS)
    # uvicorn raises the signal again after it has stopped, which must not interrupt the cleanup.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
