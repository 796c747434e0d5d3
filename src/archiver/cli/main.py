"""The `archiver` command of operators."""

from importlib import metadata
from typing import Annotated

import typer

from archiver.cli import catalogue, configure, doctor, forget_copy, heal, jobs, lts, reconcile, retire, stack, status
from archiver.cli.errors import Commands

app = typer.Typer(
    name="archiver",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Research-data archive service.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"archiver {metadata.version('archiver')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end."),
    ] = False,
) -> None:
    """Research-data archive service."""


stack.add_to(app)
configure.add_to(app)
status.add_to(app)
doctor.add_to(app)
jobs.add_to(app)
lts_commands = lts.add_to(app)
heal.add_to(lts_commands)
forget_copy.add_to(lts_commands)
catalogue.add_to(app)
reconcile.add_to(app)
retire.add_to(app)
