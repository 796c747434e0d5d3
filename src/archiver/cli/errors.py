"""Errors are shown once: what is wrong and what to do, without a trace, and exit code 1."""

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from archiver.config.settings import OpenDeploymentError
from archiver.config.sources import UnreadableSecretFileError
from archiver.workflow.errors import ArchiverError

EXIT_CODES = "Exit codes: 0 good, 1 error, 2 wrong use"
"""What they mean everywhere; a command that has others as well adds them."""


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says what to do."""


def explain_settings(error: ValidationError) -> str:
    """Which settings are not as they must be, by name; never their values."""
    wrong = "; ".join(
        f"{'.'.join(str(where).upper() for where in entry['loc']) or error.title}: {entry['msg']}"
        for entry in error.errors(include_input=False)
    )
    return f"Settings are not as they must be: {wrong}. Correct them in the environment."


class Commands(TyperGroup):
    """A group of commands whose expected errors become one message."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (ArchiverError, CommandError, OpenDeploymentError, UnreadableSecretFileError) as error:
            message = str(error)
        except ValidationError as error:
            message = explain_settings(error)
        typer.secho(message, fg="red", err=True)
        raise typer.Exit(1)
