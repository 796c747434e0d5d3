"""What the fault tests found, as the page docs/explanation/fault-matrix.md.

ARCHIVER_ALL_FAULT_POINTS=1 ARCHIVER_FAULT_MATRIX=docs/explanation/fault-matrix.md make faults

The run may be made in parts, one file of tests after the other: with ARCHIVER_FAULT_MATRIX_ADD=1 the rows of the page
that is there are kept. The page names each part with what it ran, on which commit and at which calls.
"""

import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

_ROOT = Path(__file__).parents[2]


class Matrix:
    """Collects rows; thread-safe."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, fault: str, where: str, copies: str, outcome: str) -> None:
        """One case that was tried and ended well: where a complete copy lay in between, and how it went on."""
        with self._lock:
            self._rows[fault, where, copies, outcome] += 1

    def rows(self) -> list[tuple[tuple[str, str, str, str], int]]:
        """What was found so far, as it can be handed on to another process."""
        return list(self._rows.items())

    def extend(self, rows: Iterable[tuple[Sequence[str], int]]) -> None:
        """Add the rows of another process."""
        for (fault, where, copies, outcome), count in rows:
            self._rows[fault, where, copies, outcome] += count

    def write(self, page: Path, ran: Sequence[str], every_point: bool, *, add: bool = False) -> None:
        """Put the page in place; with `add`, what the page that is there holds goes on it, too."""
        chosen = "every call" if every_point else "the calls that change something"
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        parts = [f"* {now}, {_commit()}, at {chosen}, `{' '.join(ran)}`: {self._rows.total()} cases"]
        if add and page.exists():
            parts = [*self._take_over(page), *parts]
        lines = [
            "# Faults that were tried, and what came of them",
            "",
            "Written by the tests in `tests/faults` (see `tests/support/faults_matrix.py`), not by hand: each line is",
            "a kind of case that was carried out, with how often. A case in which anything was not as it must be fails",
            "the test and is not here. What lies where after a crash: [here](what-a-crash-leaves-behind.md).",
            "",
            f"{self._rows.total()} cases:",
            "",
            *parts,
            "",
            "| fault | where | complete copies meanwhile | outcome | cases |",
            "|---|---|---|---|---|",
            *(f"| {' | '.join(row)} | {count} |" for row, count in sorted(self._rows.items())),
            "",
        ]
        page.write_text("\n".join(lines), encoding="utf-8")

    def _take_over(self, page: Path) -> list[str]:
        """Add the rows of a page; its lines that name the parts."""
        lines = page.read_text(encoding="utf-8").splitlines()
        for line in lines:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("| ") and cells[-1].isdigit():
                self.extend([(cells[:-1], int(cells[-1]))])
        return [line for line in lines if line.startswith("* ")]


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = " with changes not committed" if git("status", "--porcelain", "--", "src", "tests") else ""
    return f"commit {git('rev-parse', '--short=12', 'HEAD')}{changed}"
