"""The checks themselves: which command, and how its words are read."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.errors import ToolError
from tools.status import readings
from tools.status.audit import audit
from tools.status.results import Outcome, Result

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "status"
"""What the checks said, whole, for whoever wants to know more than STATUS.md."""
BIN = Path(sys.executable).parent
_TESTS_TIMEOUT_S = 3600
_TIMEOUT_S = 1200
_NOT_UNDERSTOOD = (ValueError, LookupError, TypeError, AttributeError, SyntaxError)
"""What reading a report raises that is cut off, or of a form we do not know; XML's own error is a SyntaxError."""


class UnendedError(ToolError):
    """A check did not end in time. That says something, other than a check that could not begin."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams, one after the other."""
        return self.stdout + self.stderr


def run(name: str, command: Sequence[str], timeout_s: float = _TIMEOUT_S) -> Done:
    """Run a command in the project's folder; all it says is kept in `FOLDER`.

    Raises:
        UnendedError: it did not end in time.
        ToolError: it could not be started.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "NO_COLOR": "1", "NO_MKDOCS_2_WARNING": "true"}
    try:
        # In a group of its own: what make started must not go on beside the next check.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be started: {error.strerror}") from error
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise UnendedError(f"it did not end within {timeout_s:,.0f} s") from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    (FOLDER / f"{name}.log").write_text(stdout + stderr, encoding="utf-8")
    return Done(process.returncode, stdout, stderr)


def _tests() -> list[Result]:
    junit, covered = FOLDER / "tests.xml", FOLDER / "coverage.json"
    for left in (junit, covered):
        left.unlink(missing_ok=True)
    options = f"--junitxml={junit} --cov --cov-report=json:{covered} --cov-report="
    done = run("tests", ["make", "--silent", "test", f"OPTIONS={options}"], _TESTS_TIMEOUT_S)
    if not junit.is_file():
        return [Result("Tests", Outcome.FAILED, f"they ended with {done.code} and left no report")]
    results = [readings.tests("Tests", done.code, junit.read_text(encoding="utf-8"))]
    if covered.is_file():
        results.append(readings.coverage(covered.read_text(encoding="utf-8")))
    else:
        results.append(Result("Coverage", Outcome.NOT_RUN, "the tests left no report of it"))
    return results


def _made(title: str, target: str, options: str = "") -> list[Result]:
    """Tests of a make target of their own."""
    junit = FOLDER / f"{target}.xml"
    junit.unlink(missing_ok=True)
    command = ["make", "--silent", target, f"OPTIONS=--junitxml={junit} {options}".rstrip()]
    done = run(target, command, _TESTS_TIMEOUT_S)
    if not junit.is_file():
        return [Result(title, Outcome.FAILED, f"they ended with {done.code} and left no report")]
    return [readings.tests(title, done.code, junit.read_text(encoding="utf-8"))]


def _ruff() -> list[Result]:
    checked = run("ruff", [str(BIN / "ruff"), "check", "--output-format", "json", "."])
    formatted = run("format", [str(BIN / "ruff"), "format", "--check", "."])
    return [
        readings.ruff(checked.code, checked.stdout),
        readings.plain("Format (ruff format)", formatted.code, formatted.output),
    ]


def _types() -> list[Result]:
    done = run("types", [str(BIN / "mypy")])
    return [readings.types(done.code, done.output)]


def _imports() -> list[Result]:
    done = run("imports", [str(BIN / "lint-imports")])
    return [readings.imports(done.code, done.output)]


def _docs() -> list[Result]:
    done = run("docs", [str(BIN / "mkdocs"), "build", "--strict", "--clean"])
    result = readings.plain("Documentation (mkdocs strict)", done.code, done.output)
    return [result if done.code else replace(result, seen="built, every link leads somewhere")]


def _actionlint() -> Path | None:
    return next((ROOT / "build" / "tools").glob("actionlint-*/actionlint"), None)


def _workflows() -> list[Result]:
    title = "Workflows (actionlint)"
    if _actionlint() is None and shutil.which("go"):
        run("actionlint", ["make", "-s", "actionlint"])
    command = _actionlint()
    if command is None:
        return [Result(title, Outcome.NOT_RUN, "actionlint is not here, and could not be built: make actionlint")]
    done = run("workflows", [str(command)])
    return [readings.plain(title, done.code, done.output or "no finding")]


def _bandit() -> list[Result]:
    done = run("bandit", [str(BIN / "bandit"), "-c", "pyproject.toml", "-q", "-r", "src", "tools", "-f", "json"])
    return [readings.bandit(done.code, done.stdout)]


def _audit() -> list[Result]:
    return [audit(ROOT / "requirements.lock")]


@dataclass(frozen=True, slots=True)
class Check:
    """Something that is checked, with the title of its result where it cannot say one itself."""

    title: str
    look: Callable[[], list[Result]]


_STACK = "Stack on Docker, without what takes long"
CHECKS = (
    Check("Style (ruff)", _ruff),
    Check("Types (mypy strict)", _types),
    Check("Imports (import-linter)", _imports),
    Check("Documentation (mkdocs strict)", _docs),
    Check("Workflows (actionlint)", _workflows),
    Check("Insecure code (bandit)", _bandit),
    Check("Known vulnerabilities (pip-audit)", _audit),
    Check("Tests", _tests),
    Check("Faults", lambda: _made("Faults", "faults")),
    Check("Monitoring (Prometheus)", lambda: _made("Monitoring (Prometheus)", "monitoring")),
    Check("Browser", lambda: _made("Browser", "browser")),
    Check("Scaling", lambda: _made("Scaling", "scaling")),
    Check(_STACK, lambda: _made(_STACK, "stack-test", "-m 'not long'")),
)


def look(check: Check) -> list[Result]:
    """Run a check; one that could not be run, or whose words could not be understood, is said to be so."""
    began = time.monotonic()
    try:
        results = check.look()
    except UnendedError as error:
        results = [Result(check.title, Outcome.FAILED, str(error))]
    except (ToolError, OSError, *_NOT_UNDERSTOOD) as error:
        results = [Result(check.title, Outcome.NOT_RUN, str(error) or type(error).__name__)]
    seconds = time.monotonic() - began
    return [replace(results[0], seconds=seconds), *results[1:]]
