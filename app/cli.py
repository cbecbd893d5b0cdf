"""The command line: `python -m app serve | migrate | keys | projects | sandbox`."""

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from app import __version__
from app.clock import isoformat
from app.domain.key import DEFAULT_PROJECT
from app.errors import ConfigurationError, GatewayError

if TYPE_CHECKING:
    from types import ModuleType

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
    settings = _load("app.settings").load_settings(host=host, port=port)
    _load("app.serve").serve(settings)


@cli.command()
def migrate() -> None:
    """Migrate the database and stop."""
    _load("app.commands").migrate()
    typer.echo("The database is up to date.")


@cli.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen; 0 for any free port.")] = 8001,
    behaviour: Annotated[str, typer.Option(help="How to behave: a JSON object, see docs/reference/sandbox.md.")] = "{}",
) -> None:
    """Run the imitation of the upstream alone."""
    sandbox_server, logs = _load("app.sandbox.server"), _load("app.logging")
    try:
        parsed = sandbox_server.Behavior.from_json(behaviour)
    except ValueError as error:
        raise ConfigurationError("--behaviour", f"is wrong ({error})", "see docs/reference/sandbox.md") from None
    logs.configure_logs("console", "info", [])
    sandbox_server.run(host=host, port=port, behavior=parsed)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="The project it belongs to.")] = DEFAULT_PROJECT,
) -> None:
    """Create an API key and print it, once, on the last line."""
    _check_name("NAME", name, _MAX_NAME)
    _check_name("--project", project, _MAX_PROJECT)
    key, secret = _load("app.commands").create_key(name, project)
    typer.echo(f"{key.id} for project {key.project}. The key is shown only now:")
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """List all API keys, a line each, beginning with the id."""
    for key in _load("app.commands").list_keys():
        state = f"revoked {isoformat(key.revoked_at)}" if key.revoked_at is not None else "active"
        used = f"last used {isoformat(key.last_used_at)}" if key.last_used_at is not None else "never used"
        typer.echo("\t".join([key.id, key.project, key.name, f"created {isoformat(key.created_at)}", used, state]))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_….")]) -> None:
    """Revoke an API key."""
    if not _load("app.commands").revoke_key(key_id):
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
    _load("app.commands").set_budget(name, budget)
    typer.echo(f"{name} may make {'any number of' if budget is None else budget} tasks a day.")


@project_commands.command("list")
def list_projects() -> None:
    """List the projects, a line each, with their budgets and what they have made today (UTC)."""
    for use in _load("app.commands").list_projects():
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


def _load(name: str) -> "ModuleType":
    """Import the module of a command when that command runs, so that `--help` and short commands start quickly.

    Nearly everything that imports create stays to the end: looking for garbage meanwhile, or in it later, is in vain.
    """
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()
