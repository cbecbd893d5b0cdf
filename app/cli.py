"""The command line: `python -m app serve | migrate | keys | projects | sandbox`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from app import __version__
from app.clock import SystemClock, isoformat
from app.db.engine import Database
from app.domain.key import DEFAULT_PROJECT
from app.errors import ConfigurationError, GatewayError
from app.logs import configure_logs
from app.sandbox import server as sandbox_server
from app.sandbox.behaviour import Behaviour
from app.serve import prepare_data_dir, prepare_database
from app.serve import serve as run_service
from app.services import access, projects
from app.settings import Settings, load_settings

T = TypeVar("T")
_WRONG = 2
_MAX_NAME = 255
_MAX_PROJECT = 64
_MAX_BUDGET = 1_000_000_000

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
cli.add_typer(keys, name="keys")
project_commands = typer.Typer(no_args_is_help=True, help="See what projects make, and bound it.")
cli.add_typer(project_commands, name="projects")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen, instead of HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Where to listen, instead of PORT.")] = None,
) -> None:
    """Migrate the database and serve."""
    run_service(load_settings(host=host, port=port))


@cli.command()
def migrate() -> None:
    """Migrate the database and stop."""

    async def nothing_more(_database: Database) -> None:
        return

    _with_database(nothing_more)
    typer.echo("The database is up to date.")


@cli.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen; 0 for any free port.")] = 8001,
    behaviour: Annotated[str, typer.Option(help="How to behave: a JSON object, see docs/sandbox.md.")] = "{}",
) -> None:
    """Run the imitation of the upstream alone."""
    try:
        parsed = Behaviour.from_json(behaviour)
    except ValueError as error:
        raise ConfigurationError("--behaviour", f"is wrong ({error})", "see docs/sandbox.md") from None
    configure_logs("console", "info", [])
    sandbox_server.run(host=host, port=port, state=None, behaviour=parsed)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="The project it belongs to.")] = DEFAULT_PROJECT,
) -> None:
    """Create an API key and print it, once, on the last line."""
    _check_name("NAME", name, _MAX_NAME)
    _check_name("--project", project, _MAX_PROJECT)
    key, secret = _with_database(lambda database: access.create_key(database, SystemClock(), name, project))
    typer.echo(f"{key.id} for project {key.project}. The key is shown only now:")
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """List all API keys, a line each, beginning with the id."""
    for key in _with_database(access.list_keys):
        state = f"revoked {isoformat(key.revoked_at)}" if key.revoked_at is not None else "active"
        used = f"last used {isoformat(key.last_used_at)}" if key.last_used_at is not None else "never used"
        typer.echo("\t".join([key.id, key.project, key.name, f"created {isoformat(key.created_at)}", used, state]))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_….")]) -> None:
    """Revoke an API key."""
    if not _with_database(lambda database: access.revoke_key(database, SystemClock(), key_id)):
        typer.echo(f"There is no key {key_id}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{key_id} is revoked.")


@project_commands.command("budget")
def set_budget(
    name: Annotated[str, typer.Argument(help="The project.")],
    tasks: Annotated[str, typer.Argument(metavar="N|none", help="How many tasks a day (UTC), or none for no limit.")],
) -> None:
    """Bound how many tasks a project may make in a day."""
    _check_name("NAME", name, _MAX_PROJECT)
    is_number = tasks.isascii() and tasks.isdigit() and len(tasks) <= len(str(_MAX_BUDGET))
    if tasks != "none" and not (is_number and int(tasks) <= _MAX_BUDGET):
        raise ConfigurationError("N", "is wrong", f"allowed: a whole number, 0 to {_MAX_BUDGET}, or none")
    budget = None if tasks == "none" else int(tasks)
    _with_database(lambda database: projects.set_daily_budget(database, SystemClock(), name, budget))
    typer.echo(f"{name} may make {'any number of' if budget is None else budget} tasks a day.")


@project_commands.command("list")
def list_projects() -> None:
    """List the projects, a line each, with their budgets and what they have made today (UTC)."""
    for use in _with_database(lambda database: projects.list_projects(database, SystemClock())):
        budget = "none" if use.daily_tasks is None else str(use.daily_tasks)
        typer.echo(f"{use.name}\tbudget {budget}\ttoday {use.made_today}")


@cli.callback(invoke_without_command=True)
def version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False
) -> None:
    """Self-hosted gateway to the NanoBanana image API."""
    if version:
        typer.echo(f"nanobanana-gateway {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a wrong setting ends it with one line and exit code 2."""
    try:
        cli()
    except (ConfigurationError, GatewayError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(_WRONG)


def _check_name(what: str, value: str, limit: int) -> None:
    if not 0 < len(value.strip()) <= limit or not value.isprintable():
        raise ConfigurationError(what, "is wrong", f"allowed: 1 to {limit} printable characters")


def _with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    settings = load_settings()
    prepare_data_dir(settings)
    configure_logs(settings.log_format, settings.log_level, [])

    async def prepared(settings: Settings) -> T:
        database = await prepare_database(settings)
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(prepared(settings))
