"""The command line, `python -m app`."""

import gc
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from app import __version__
from app.clock import isoformat
from app.domain.key import DEFAULT_PROJECT
from app.errors import ConfigurationError, GatewayError, ListenError

_MAX_NAME_CHARACTERS = 255
_MAX_PROJECT_CHARACTERS = 64
_MAX_BUDGET = 1_000_000_000
_MAX_PORT = 65_535
_KEYS = "app.access.authenticator"
_PROJECTS = "app.access.projects"

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
cli.add_typer(keys, name="keys")
project_commands = typer.Typer(no_args_is_help=True, help="List projects and set their daily budgets.")
cli.add_typer(project_commands, name="projects")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; overrides PORT.")] = None,
) -> None:
    """Migrate the database and serve."""
    settings = _load("app.settings").load_settings(host=host, port=port)
    _load("app.serve").serve(settings)


@cli.command()
def migrate() -> None:
    """Migrate the database and exit."""

    async def do_nothing_more(*_: object) -> None:
        return

    _run(do_nothing_more)
    typer.echo("The database is up to date.")


@cli.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.")] = 8001,
    behaviour: Annotated[str, typer.Option(help="Behavior as a JSON object; see docs/reference/sandbox.md.")] = "{}",
) -> None:
    """Run the sandbox by itself; it simulates the upstream."""
    if not 0 <= port <= _MAX_PORT:
        raise ConfigurationError("--port", "is invalid", f"allowed: a port number, 0 to {_MAX_PORT}")
    sandbox_server, logs = _load("app.sandbox.server"), _load("app.logging")
    try:
        parsed = sandbox_server.Behavior.from_json(behaviour)
    except ValueError as error:
        raise ConfigurationError("--behaviour", f"is invalid ({error})", "see docs/reference/sandbox.md") from None
    logs.configure_logs("console", "info", [])
    try:
        sandbox_server.run(host=host, port=port, behavior=parsed)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        raise ListenError(host, port, error, host_name="--host", port_name="--port") from None


@keys.command("create", help="Create an API key and print it on the last line. It is shown only once.")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="The project the key belongs to.")] = DEFAULT_PROJECT,
) -> None:
    """Create an API key and print it last."""
    _check_name("NAME", name, _MAX_NAME_CHARACTERS)
    _check_name("--project", project, _MAX_PROJECT_CHARACTERS)

    async def create(database: Any, clock: Any) -> Any:
        is_first = not await _load(_KEYS).any_key_exists(database)
        return is_first, *await _load(_KEYS).create_key(database, clock, name, project)

    is_first, key, secret = _run(create)
    if is_first and _load("app.settings").load_settings().auth is None:
        typer.echo("This is the first key. From now on, every request needs a key.", err=True)
    typer.echo(f"Created {key.id} for project {key.project}. The key can't be shown again:")
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """List API keys with their last use, one per line."""
    for key in _run(lambda database, _: _load(_KEYS).list_keys(database)):
        state = f"revoked {isoformat(key.revoked_at)}" if key.revoked_at is not None else "active"
        used = f"last used {isoformat(key.last_used_at)}" if key.last_used_at is not None else "never used"
        typer.echo("\t".join([key.id, key.project, key.name, f"created {isoformat(key.created_at)}", used, state]))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_….")]) -> None:
    """Revoke an API key."""
    if not _run(lambda database, clock: _load(_KEYS).revoke_key(database, clock, key_id)):
        typer.echo(f"error: no key has the ID {key_id}", err=True)
        raise typer.Exit(1)
    typer.echo(f"Revoked {key_id}.")


@project_commands.command("budget")
def set_budget(
    name: Annotated[str, typer.Argument(help="The project.")],
    tasks: Annotated[str, typer.Argument(metavar="N|none", help="Tasks per day (UTC), or none for no limit.")],
) -> None:
    """Limit how many tasks a project can create per day."""
    _check_name("NAME", name, _MAX_PROJECT_CHARACTERS)
    is_number = tasks.isascii() and tasks.isdigit() and len(tasks) <= len(str(_MAX_BUDGET))
    if tasks != "none" and not (is_number and int(tasks) <= _MAX_BUDGET):
        raise ConfigurationError("N", "is invalid", f"allowed: a whole number, 0 to {_MAX_BUDGET}, or none")
    budget = None if tasks == "none" else int(tasks)
    _run(lambda database, clock: _load(_PROJECTS).set_daily_budget(database, clock, name, budget))
    typer.echo(f"{name} can create {'any number of' if budget is None else budget} tasks per day.")


@project_commands.command(
    "list", help="List projects, one per line, with their budgets and the number of tasks created today."
)
def list_projects() -> None:
    """List projects with budget and today's tasks, one per line."""
    for use in _run(lambda database, clock: _load(_PROJECTS).list_projects(database, clock)):
        budget = "none" if use.daily_tasks is None else str(use.daily_tasks)
        typer.echo(f"{use.name}\tbudget {budget}\ttoday {use.created_today}")


@cli.callback(invoke_without_command=True)
def version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False
) -> None:
    """Self-hosted gateway to the NanoBanana image API."""
    if version:
        typer.echo(f"nanobanana-gateway {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; errors exit with code 2."""
    try:
        cli()
    except (ConfigurationError, GatewayError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _check_name(what: str, value: str, limit: int) -> None:
    if not 0 < len(value.strip()) <= limit or not value.isprintable():
        raise ConfigurationError(what, "is invalid", f"allowed: 1 to {limit} printable characters")


def _run(work: Callable[[Any, Any], Any]) -> Any:
    """Run `work` with a migrated database and a clock."""
    return _load("app.prepare").run_with_database(work)


def _load(name: str) -> Any:
    """Import a module when needed, so short commands start quickly.

    Garbage collection is suspended because nearly everything that imports create lives until the end.
    """
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()
