"""`python -m tools.status.audit`: known vulnerabilities of every package that the lock file names.

pip-audit asks a vulnerability service. One that is not there is an error; but a mirror of PyPI that passes on no
vulnerabilities looks like a service that knows of none. So a package with known ones is asked about first: what does
not know that one, knows nothing.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.errors import ToolError
from tools.status.readings import vulnerabilities
from tools.status.results import Outcome, Result

ROOT = Path(__file__).parents[2]
TITLE = "Known vulnerabilities (pip-audit)"
KNOWN_VULNERABLE = "jinja2==2.10"
"""PYSEC-2019-217 among others; it is looked up, never installed."""
_NOT_RUN = 3
_TIMEOUT_S = 600

Ask = Callable[[Path], tuple[int, str, str]]
"""Audits a requirements file: exit code, report, and words on stderr."""


def ask_pip_audit(requirements: Path) -> tuple[int, str, str]:
    """Audit exactly the versions that a requirements file names, resolving and installing nothing."""
    options = ["--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", *options, "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, env=os.environ)
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer within {_TIMEOUT_S} s"
    return done.returncode, done.stdout, done.stderr


def _reason(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no report"


def _not_run(reason: str) -> Result:
    return Result(TITLE, Outcome.NOT_RUN, reason)


def audit(requirements: Path, ask: Ask = ask_pip_audit) -> Result:
    """Audit a requirements file, after making sure that there is somebody who knows."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "requirements.txt"
        probe.write_text(KNOWN_VULNERABLE + "\n", encoding="utf-8")
        _, report, words = ask(probe)
    try:
        _, known = vulnerabilities(report)
    except ToolError:
        return _not_run(f"the vulnerability service gave no answer: {_reason(words)}")
    if not known:
        return _not_run(f"the vulnerability service knows nothing, not even of {KNOWN_VULNERABLE}")
    code, report, words = ask(requirements)
    try:
        asked, found = vulnerabilities(report)
    except ToolError:
        return _not_run(f"the audit did not end: {_reason(words)}")
    if found:
        return Result(TITLE, Outcome.FAILED, f"{len(found)} in {asked} packages", details=tuple(found))
    if code != 0:  # --strict: a package that could not be audited
        return _not_run(f"not every package could be audited: {_reason(words)}")
    return Result(TITLE, Outcome.PASSED, f"none in {asked} packages")


def main() -> int:
    """Say what was found; the exit code is 0 only when everything was audited and nothing found."""
    result = audit(ROOT / "requirements.lock")
    sys.stdout.write("\n".join([f"{result.title}: {result.outcome}: {result.seen}", *result.details]) + "\n")
    return {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.NOT_RUN: _NOT_RUN}[result.outcome]


if __name__ == "__main__":
    sys.exit(main())
