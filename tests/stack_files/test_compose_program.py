"""The Compose that tests and `make` use says when something went wrong."""

import subprocess
from pathlib import Path

from support.compose_program import compose_program

ROOT = Path(__file__).parents[2]


def test_its_exit_status_is_that_of_compose(tmp_path: Path) -> None:
    asked = [str(compose_program()), "--file", str(tmp_path / "none.yml"), "config"]
    assert subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode != 0


def test_make_says_so_when_compose_fails(tmp_path: Path) -> None:
    asked = ["make", "STACK=docker", f"ENV_FILES=--env-file {tmp_path / 'none.env'}", "ps"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "none.env" in done.stdout + done.stderr
