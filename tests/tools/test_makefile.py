"""`make help`: the only thing to remember."""

import os
import re
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin"},
    )
    return done.stdout


def test_help_shows_every_target_that_says_what_it_does_below_a_heading() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    blocks = _make("help").strip("\n").split("\n\n")

    assert len(targets) > 10
    assert len(blocks) > 3
    shown = [line.split()[1] for block in blocks for line in block.splitlines()[1:]]
    assert shown == targets
    assert not any(block.startswith(" ") for block in blocks)


def test_a_file_with_the_name_of_a_target_does_not_stand_in_its_way(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (tmp_path / "Makefile").write_text(makefile, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "help").touch()

    done = subprocess.run(["make", "help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)

    assert "make docs" in done.stdout


def test_the_log_of_one_part_of_the_embedded_stack_is_shown(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for part in ("api", "s3"):
        (tmp_path / "logs" / f"{part}.log").write_text(f"of {part}\n", encoding="utf-8")
    environment = {"PATH": "/usr/bin:/bin", "ARCHIVER_LOCAL_FOLDER": str(tmp_path)}
    with subprocess.Popen(
        ["make", "logs", "SERVICE=api"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as following:
        assert following.stdout is not None
        try:
            assert following.stdout.readline() == b"of api\n"
        finally:
            os.killpg(following.pid, signal.SIGKILL)


def test_whoever_is_not_root_tries_the_stack_by_sudo_with_the_own_environment(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho 1001\n", encoding="utf-8")
    (tmp_path / "id").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    said = subprocess.run(
        ["make", "--dry-run", "stack-test"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout

    assert "sudo -E .venv/bin/python -m pytest tests/stack/live" in said
