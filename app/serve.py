"""Running the service: prepare the database, open the port, serve until told to stop."""

import asyncio
import fcntl
import gc
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from dotenv import load_dotenv
from fastapi import FastAPI

from app.access.authenticator import check_start, ensure_bootstrap_key
from app.access.signing_secrets import check_fingerprint, load_secrets
from app.clock import SystemClock
from app.errors import ConfigurationError, StorageUnavailable
from app.logging import configure_logs
from app.main import create_app, surround, with_middleware
from app.prepare import prepare_data_dir, prepare_database
from app.server.limits import ConnectionLimits
from app.server.server import Server
from app.server.versions import untested_versions
from app.settings import Settings, database_url
from app.storage.store import open_store
from app.web.refusals import refuse, respond_overloaded

if TYPE_CHECKING:
    from app.sandbox.server import SandboxServer

_FILE_PATIENCE_SECONDS = 5
_LOCK_PAUSE_SECONDS = 0.1
_SHORT_SECRET = 16
_BACKLOG = 2048
_GARBAGE_AFTER_ALLOCATIONS = 10_000
_OPEN_FILES = 65_536
_FILES_FOR_OURSELVES = 512
_log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises `ConfigurationError` if the settings don't let it start."""
    check_versions()
    prepare_data_dir(settings)
    load_dotenv(".env")  # the storage client reads AWS_… from the environment only
    secrets = load_secrets(settings)
    known = [settings.nanobanana_api_key, settings.bootstrap_api_key]
    configure_logs(
        settings.log_format, settings.log_level, [*secrets, *(s.get_secret_value() for s in known if s is not None)]
    )
    allow_many_connections()
    with only_process(settings):
        _serve_alone(settings, secrets)


def _serve_alone(settings: Settings, secrets: list[str]) -> None:
    is_open = asyncio.run(prepare(settings, secrets))
    listener = listen(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    if is_open:
        where = "on this machine" if settings.is_loopback_only else "who reaches this address"
        note = f"No API key is needed: anybody {where} can submit tasks. Only pages of other origins can't."
        _log.warning("open", note=note, hosts=",".join(settings.allowed_hosts) or "loopback")
    if any(len(secret) < _SHORT_SECRET for secret in secrets):
        _log.warning("short_secret", note=f"SECRET_KEY has less than {_SHORT_SECRET} characters: it can be guessed.")
    if settings.nanobanana_api_key is not None:
        _run(settings, listener, settings.nanobanana_base_url, settings.nanobanana_api_key.get_secret_value())
        return
    sandbox = _load_sandbox()(state=settings.data_dir / "sandbox.db")
    sandbox.start()
    note = "NANOBANANA_API_KEY is not set: this service draws the pictures itself."
    _log.warning("sandbox", note=note, address=sandbox.url)
    try:
        _run(settings, listener, sandbox.url, "sandbox")
    finally:
        sandbox.stop()


def _load_sandbox() -> "type[SandboxServer]":
    """Import the sandbox, which only starts without an upstream key need."""
    server: type[SandboxServer] = import_module("app.sandbox.server").SandboxServer
    return server


def check_versions() -> None:
    """Refuse to serve with a version of uvicorn or httptools that was not tested; raises `ConfigurationError`."""
    for package, (installed, tested) in untested_versions().items():
        raise ConfigurationError(package, f"{installed} is installed", f"tested are {tested}: see requirements.txt")


def allow_many_connections() -> None:
    """Use as many open files as the system lets us: a shell's usual 1,024 are fewer than clients that wait and follow."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@contextmanager
def only_process(settings: Settings) -> Iterator[None]:
    """Keep a second process from serving the same SQLite file; raises `ConfigurationError` if one does.

    Waits a little for one that is just stopping. The lock is the operating system's and ends with the process.
    """
    if settings.is_postgresql:
        yield
        return
    path = Path(database_url(settings).removeprefix("sqlite:///") + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise ConfigurationError(
            "DATABASE_URL", f"names a file that can't be made ({error.strerror})", "choose a directory to write to"
        ) from None
    with file:
        deadline = time.monotonic() + _FILE_PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        "DATABASE_URL",
                        f"names a SQLite file that another process serves ({path.with_suffix('')})",
                        "stop that one, choose another DATA_DIR, or use PostgreSQL for several processes",
                    ) from None
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                break
        yield


async def prepare(settings: Settings, secrets: list[str]) -> bool:
    """Bring the database up to date and check that we may run on it; returns whether we run open."""
    database = await prepare_database(settings)
    try:
        await check_fingerprint(database, secrets)
        if settings.bootstrap_api_key is not None:
            await ensure_bootstrap_key(database, SystemClock(), settings.bootstrap_api_key.get_secret_value())
        await check_storage(settings)
        return await check_start(database, settings)
    finally:
        await database.aclose()


async def check_storage(settings: Settings) -> None:
    """See whether images can be stored; raises `ConfigurationError` for what waiting won't mend."""
    try:
        await open_store(settings.storage_url, settings.data_dir).check()
    except StorageUnavailable:
        # Tasks and callbacks don't need it, and pictures wait.
        _log.warning("storage_away", note="Images can't be stored now; they are kept once that is possible again.")


def listen(settings: Settings) -> socket.socket:
    """Open the port, so that a wrong or taken one is told before anything runs; raises `ConfigurationError`."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol left at 0 the event loop would not turn off Nagle's algorithm: 40 ms on every answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host.strip("[]"), settings.port))
        listener.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter for a name that can't be one
        listener.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        problem = f"can't be listened on ({reason}): {settings.host}:{settings.port}"
        raise ConfigurationError("HOST/PORT", problem, "choose an address of this machine and a free port") from None
    return listener


def make_server(settings: Settings, app: FastAPI, limits: ConnectionLimits | None = None) -> Server:
    """Put the application and its middleware into a server."""
    return Server(
        with_middleware(settings, app),
        limits=limits or ConnectionLimits(connections=_max_connections()),
        refuse=refuse,
        overloaded=surround(settings, respond_overloaded),
        on_stop=app.state.container.stop_waiting,
    )


def _max_connections() -> int:
    """Leave file descriptors for the database, the upstream and webhooks: without any, nothing works."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ConnectionLimits().connections
    return most if files == resource.RLIM_INFINITY else min(most, max(files - _FILES_FOR_OURSELVES, files // 2))


def _run(settings: Settings, listener: socket.socket, upstream_url: str, upstream_key: str) -> None:
    server = make_server(settings, create_app(settings, upstream_url=upstream_url, upstream_key=upstream_key))
    # What is there now stays to the end. Looking through all of it for garbage, again and again, takes a tenth of the
    # time of a busy service and holds up every request meanwhile.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER_ALLOCATIONS)
    # Uvicorn passes the signal on once it has stopped; what is left to close must not die of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
