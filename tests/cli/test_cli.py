"""The `archiver` command itself."""

import json
import os
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
from tools.docs.cli import app_command, commands

runner = CliRunner()


def test_the_version_is_shown() -> None:
    done = runner.invoke(app, ["--version"])

    assert done.exit_code == 0
    assert done.stdout.startswith("archiver ")


COMMANDS = dict(commands(app_command(), "archiver"))
ONLY_LOOKS = {
    *("archiver status", "archiver jobs", "archiver retire list"),
    *("archiver lts list", "archiver lts show", "archiver lts verify", "archiver catalogue check"),
}
NO_JSON = {"archiver demo": "it is to be watched; its verdict is its exit code"}
NO_DRY_RUN = {
    "archiver up": "it starts processes on this machine, which `down` ends",
    "archiver down": "it ends processes on this machine; their data stays",
    "archiver demo": "it makes a data set on a stack that is for trying out",
}


def _options(path: str) -> set[str]:
    return {option for parameter in COMMANDS[path].params for option in parameter.opts}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_explains_itself_and_its_exit_codes(path: str) -> None:
    *above, name = path.split()[1:]

    assert name in runner.invoke(app, [*above, "--help"]).stdout
    done = runner.invoke(app, [*above, name, "--help"])

    assert done.exit_code == 0
    assert COMMANDS[path].help
    assert COMMANDS[path].epilog.startswith("Exit codes: 0 ")
    assert "Exit codes: 0 " in done.stdout


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_answers_programs_or_it_is_said_why_not(path: str) -> None:
    assert ("--json" in _options(path)) != (path in NO_JSON)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_that_changes_something_tells_first_what_or_it_is_said_why_not(path: str) -> None:
    assert ("--dry-run" in _options(path)) != (path in ONLY_LOOKS | set(NO_DRY_RUN))


@pytest.mark.parametrize(
    ("command", "do_it"),
    [
        (["lts", "heal", "x"], "--apply"),
        (["catalogue", "repair", "x"], "--apply"),
        (["lts", "forget-copy", "1"], "--yes"),
    ],
)
def test_a_command_is_not_told_to_do_it_and_not_to_do_it(command: list[str], do_it: str) -> None:
    done = runner.invoke(app, [*command, do_it, "--dry-run"])

    assert done.exit_code == 2
    assert "not both" in done.stderr


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("archiver rec", {"reconcile"}),
        ("archiver lts re", {"rebuild-ledger"}),
        ("archiver retire re", {"remove", "restore"}),
        ("archiver lts heal --a", {"--all", "--apply"}),
    ],
)
def test_a_shell_completes_commands_and_options(line: str, completed: set[str]) -> None:
    program = Path(sys.executable).with_name("archiver")
    script = """
        eval "$(archiver --show-completion; true)"
        COMP_WORDS=($LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _archiver_completion archiver
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "LINE": line, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )

    assert set(done.stdout.split()) == completed


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
