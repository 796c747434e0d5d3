"""The `archiver` command itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from archiver.cli.errors import CommandError, Commands
from archiver.cli.main import app
from archiver.config.settings import OpenDeploymentError
from archiver.workflow.errors import MissingFilesError

runner = CliRunner()


def test_the_version_is_shown() -> None:
    done = runner.invoke(app, ["--version"])

    assert done.exit_code == 0
    assert done.stdout.startswith("archiver ")


@pytest.mark.parametrize("command", ["up", "down", "status", "demo", "configure"])
def test_every_command_explains_itself(command: str) -> None:
    assert runner.invoke(app, [command, "--help"]).exit_code == 0
    assert command in runner.invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("library", ["prefect", "fastapi", "boto3", "sqlalchemy"])
def test_help_does_not_load_the_service(library: str) -> None:
    program = f"import archiver.cli.main, sys; sys.exit({library!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        MissingFilesError("Upload them:", ["a.mrc"]),
        CommandError("Name a file."),
        OpenDeploymentError("Set a password."),
    ],
)
def test_an_expected_error_is_one_message_and_exit_code_1(error: Exception) -> None:
    failing = typer.Typer(cls=Commands)

    @failing.callback()
    def options() -> None:
        """Something."""

    @failing.command()
    def work() -> None:
        """Fail."""
        raise error

    done = runner.invoke(failing, ["work"])

    assert done.exit_code == 1
    assert done.stderr == f"{error}\n"
    assert done.stdout == ""


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    done = runner.invoke(app, ["status", "--folder", str(tmp_path)], env={"ARCHIVER_LOCAL_PORTS": "some"})

    assert done.exit_code == 1
    assert "ARCHIVER_LOCAL_PORTS" in done.stderr


def test_the_status_of_a_folder_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    done = runner.invoke(app, ["status", "--folder", str(tmp_path)])

    assert done.exit_code == 3
    assert "archiver up" in done.stdout


def test_the_status_can_be_read_by_programs(tmp_path: Path) -> None:
    done = runner.invoke(app, ["status", "--json", "--folder", str(tmp_path)])

    assert done.exit_code == 3
    assert json.loads(done.stdout) == {"folder": str(tmp_path), "phase": None}


def test_down_where_nothing_runs_is_fine(tmp_path: Path) -> None:
    done = runner.invoke(app, ["down", "--json", "--folder", str(tmp_path)])

    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"folder": str(tmp_path), "ended": False}
