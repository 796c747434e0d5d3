"""`archiver configure`: registers what the service needs with a Prefect server."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from archiver.cli.errors import EXIT_CODES, CommandError

_MARKS = {"created": "+", "updated": "~", "unchanged": " ", "kept": "!"}


def configure(
    variables: Annotated[
        Path | None,
        typer.Option("--variables", "-v", help="TOML file of variables [PREFECT_VARS_FILE]."),
    ] = None,
    limits: Annotated[
        Path | None, typer.Option("--limits", "-l", help="TOML file of limits [PREFECT_LIMITS_FILE].")
    ] = None,
    job_template: Annotated[
        Path | None,
        typer.Option("--job-template", "-t", help="JSON file of job defaults [PREFECT_JOB_TEMPLATE]."),
    ] = None,
    wait: Annotated[float, typer.Option(help="How long to wait for the server, seconds.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell it as JSON.")] = False,
) -> None:
    """Register variables, secrets, limits, work pools and automations with the server at PREFECT_API_URL.

    Safe to repeat: only what differs is changed. Secrets come from S3_USER_FILE, SCICAT_PASSWORD_FILE and the
    like; those without a value here stay as they are on the server.
    """
    from archiver.config.register import RegistrationSettings, register
    from archiver.config.register_changes import Change, ConfigurationError

    given = {
        "prefect_vars_file": variables,
        "prefect_limits_file": limits,
        "prefect_job_template": job_template,
    }
    settings = RegistrationSettings.model_validate({name: str(file) for name, file in given.items() if file})

    def show(change: Change) -> None:
        if not as_json:
            detail = f"  ({change.detail})" if change.detail else ""
            typer.echo(f"{_MARKS[change.action]} {change.action:<9} {change.kind} {change.name}{detail}")

    try:
        changes = register(settings, dry_run=dry_run, wait_s=wait, report=show)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "changes": [asdict(change) for change in changes]}))


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"{EXIT_CODES}.")(configure)
