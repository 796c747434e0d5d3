"""`make help`: the only thing to remember."""

import re
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
