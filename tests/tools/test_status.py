"""STATUS.md: what the tools say is read rightly, and what could not be done is never called passed."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tools.status.__main__ as command
from tools.errors import ToolError
from tools.status import readings
from tools.status.audit import KNOWN_VULNERABLE, audit
from tools.status.checks import Check, look
from tools.status.report import Circumstances, report
from tools.status.results import Outcome, Result

RUN = {"date": "2026-01-01", "commit": "0987fed", "machine": "here", "factor": 1, "runs": 3}
WHERE = Circumstances("0123abc", False, "2026-01-02 03:04 UTC", "Linux x86_64, 2 cores, Python 3.11.7", "1.2.3")
PASSING = '<testsuites><testsuite><testcase classname="tests.a" name="test_one"/></testsuite></testsuites>'
FAILING = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_one"/>
<testcase classname="tests.a" name="test_two"><failure>x</failure></testcase>
<testcase classname="tests.b" name="test_three"><error>x</error></testcase>
<testcase classname="tests.b" name="test_four"><skipped/></testcase></testsuite></testsuites>"""


# ---------------------------------------------------------------------------------------------- readings


def test_failed_tests_are_counted_and_named() -> None:
    result = readings.tests("Tests", 2, FAILING)

    assert (result.outcome, result.seen) == (Outcome.FAILED, "1 passed, 2 failed, 1 skipped")
    assert result.details == ("tests.a::test_two", "tests.b::test_three")


@pytest.mark.parametrize(("code", "junit"), [(2, PASSING), (0, "<testsuites/>"), (0, FAILING)])
def test_tests_that_did_not_all_run_and_pass_are_failed_whatever_is_counted(code: int, junit: str) -> None:
    assert readings.tests("Tests", code, junit).outcome is Outcome.FAILED


def test_tests_that_passed_are_passed() -> None:
    assert readings.tests("Tests", 0, PASSING).outcome is Outcome.PASSED


def test_coverage_is_read() -> None:
    result = readings.coverage(json.dumps({"totals": {"percent_covered": 91.26, "num_statements": 12345}}))

    assert result.seen == "91.3 % of 12,345 statements"


def test_findings_of_ruff_are_counted_and_named() -> None:
    found = [{"filename": "a.py", "location": {"row": 3}, "code": "E501"}]

    assert readings.ruff(0, "[]").seen == "0 findings"
    assert readings.ruff(1, json.dumps(found)).details == ("a.py:3 E501",)
    assert readings.ruff(1, json.dumps(found)).outcome is Outcome.FAILED


def test_errors_of_mypy_are_counted_and_named() -> None:
    output = 'a.py:1: error: Name "x" is not defined  [name-defined]\na.py:1: note: what\nFound 1 error in 1 file\n'

    assert readings.types(1, output).seen == "1 error"
    assert readings.types(0, "Success: no issues found in 2 source files\n").seen == "0 errors"


def test_contracts_of_imports_are_counted_and_none_is_a_failure() -> None:
    assert readings.imports(0, "x KEPT\nContracts: 4 kept, 0 broken.\n").outcome is Outcome.PASSED
    assert readings.imports(1, "Contracts: 3 kept, 1 broken.\n").seen == "3 contracts kept, 1 broken"
    assert readings.imports(0, "").outcome is Outcome.FAILED


def test_bandit_passes_only_when_it_read_something() -> None:
    clean = {"results": [], "errors": [], "metrics": {"_totals": {"loc": 100}}}
    finding = {"filename": "a.py", "line_number": 3, "test_id": "B602"}

    assert readings.bandit(0, json.dumps(clean)).outcome is Outcome.PASSED
    assert readings.bandit(1, json.dumps({**clean, "results": [finding]})).details == ("a.py:3 B602",)
    assert readings.bandit(0, json.dumps({**clean, "metrics": {"_totals": {"loc": 0}}})).outcome is Outcome.FAILED


# ---------------------------------------------------------------------------------------------- audit


def _packages(*vulnerable: str) -> str:
    packages = [{"name": name, "version": "1", "vulns": [{"id": "PYSEC-1"}]} for name in vulnerable]
    return json.dumps({"dependencies": [*packages, {"name": "good", "version": "2", "vulns": []}], "fixes": []})


def _service(known: tuple[int, str, str], locked: tuple[int, str, str]) -> Callable[[Path], tuple[int, str, str]]:
    return lambda file: known if file.read_text(encoding="utf-8") == KNOWN_VULNERABLE + "\n" else locked


GOOD = (1, _packages("jinja2"), "Found 1 known vulnerability in 1 package")


@pytest.mark.parametrize(
    ("known", "locked", "outcome", "seen"),
    [
        (GOOD, (0, _packages(), ""), Outcome.PASSED, "none in 1 packages"),
        (GOOD, (1, _packages("a"), ""), Outcome.FAILED, "1 in 2 packages"),
        (GOOD, (1, "", "ERROR:could not connect"), Outcome.NOT_RUN, "could not connect"),
        (GOOD, (1, _packages(), "ERROR:x skipped"), Outcome.NOT_RUN, "not every package"),
        ((1, "", "ERROR:no route"), (0, _packages(), ""), Outcome.NOT_RUN, "no answer: ERROR:no route"),
        ((0, _packages(), "No known vulnerabilities found"), (0, _packages(), ""), Outcome.NOT_RUN, "knows nothing"),
    ],
    ids=["nothing", "something", "cut off", "not every package", "nobody there", "a mirror that knows nothing"],
)
def test_an_audit_is_passed_only_when_somebody_knew_and_found_nothing(
    tmp_path: Path, known: tuple[int, str, str], locked: tuple[int, str, str], outcome: Outcome, seen: str
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("good==2\n", encoding="utf-8")

    result = audit(lock, _service(known, locked))

    assert result.outcome is outcome
    assert seen in result.seen


# ---------------------------------------------------------------------------------------------- report


def test_the_page_says_commit_outcomes_and_what_failed() -> None:
    results = [
        Result("Tests", Outcome.FAILED, "1 passed, 1 failed", 61.4, ("tests.a::test_two",)),
        Result("Audit", Outcome.NOT_RUN, "no | answer\n there"),
    ]

    page = report(WHERE, results, [])

    assert "commit `0123abc`; 2026-01-02" in page
    assert "| Tests | **failed** | 1 passed, 1 failed | 61 s |" in page
    assert r"| Audit | **not run** | no \| answer there |  |" in page
    assert "* `tests.a::test_two`" in page
    assert "not run: there are no results here" in page
    assert "with changes that are not committed" in report(replace(WHERE, is_changed=True), results, [])


def test_the_page_shows_the_ratios_of_the_benchmarks_and_what_they_were_measured_on() -> None:
    figure = {
        "server": "minio",
        "subject": "A",
        "figure": "archive",
        "unit": "s",
        "median": 12.3,
        "ratio": 1.55,
        "aim": {"most": 1.6, "of": "Y"},
        "met": True,
    }
    missed = {**figure, "subject": "B", "ratio": 0.9, "aim": {"most": 0.75, "of": "Y"}, "met": False}
    plain = {**figure, "figure": "yardstick", "ratio": None, "aim": None, "met": None}
    measured = {**RUN, "figures": [figure, missed, plain]}

    page = report(WHERE, [], [measured])

    assert "Measured 2026-01-01 at commit 0987fed on here; at full size, medians of 3." in page
    assert "| minio | A | archive | 12.3 s | 1.55 Y | ≤ 1.6 Y | yes |" in page
    assert "| **no** |" in page
    assert "yardstick" not in page


def test_of_each_figure_the_page_shows_the_one_measured_last() -> None:
    figure = {"server": "minio", "figure": "archive", "unit": "s", "ratio": None, "aim": {"most": 9, "of": ""}}

    def run(commit: str, **medians: float) -> dict[str, Any]:
        figures = [{**figure, "subject": name, "median": value, "met": True} for name, value in medians.items()]
        return {**RUN, "commit": commit, "factor": 0.25, "figures": figures}

    page = report(WHERE, [], [run("0000001", A=1.5, B=2.5), run("0000002", A=3.5)])

    assert page.index("0000002") < page.index("0000001")
    assert "at 0.25 of the size" in page
    assert "| A | archive | 3.5 s |" in page
    assert "| B | archive | 2.5 s |" in page
    assert "1.5 s" not in page


# ---------------------------------------------------------------------------------------------- command


def _raise(error: Exception) -> list[Result]:
    raise error


@pytest.mark.parametrize("error", [ToolError("mypy cannot be started"), ValueError("no JSON")])
def test_a_check_that_cannot_be_run_or_read_is_not_run(error: Exception) -> None:
    (result,) = look(Check("Types", lambda: _raise(error)))

    assert (result.title, result.outcome, result.seen) == ("Types", Outcome.NOT_RUN, str(error))


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.PASSED, 0), (Outcome.NOT_RUN, 0), (Outcome.FAILED, 1)], ids=str)
def test_the_page_is_written_whatever_the_checks_come_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome, code: int
) -> None:
    monkeypatch.setattr(command, "PAGE", tmp_path / "STATUS.md")
    monkeypatch.setattr(command, "CHECKS", [Check("Tests", lambda: [Result("Tests", outcome, "seen")])])

    done = CliRunner().invoke(command.app, ["write"])

    assert done.exit_code == code, done.output
    assert f"| Tests | {'passed' if code == 0 and outcome is Outcome.PASSED else f'**{outcome}**'} | seen |" in (
        tmp_path / "STATUS.md"
    ).read_text(encoding="utf-8")


def test_a_check_that_was_not_asked_for_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "PAGE", tmp_path / "STATUS.md")
    checks = [Check(title, lambda title=title: [Result(title, Outcome.PASSED, "")]) for title in ("Tests", "Types")]  # type: ignore[misc]
    monkeypatch.setattr(command, "CHECKS", checks)

    CliRunner().invoke(command.app, ["write", "--only", "types"])

    page = (tmp_path / "STATUS.md").read_text(encoding="utf-8")
    assert "| Tests | **not run** |" in page
    assert "| Types | passed |" in page


# ---------------------------------------------------------------------------------------------- commit


def _git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a repository with a STATUS.md."""
    _git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    _git(tmp_path, "clone", "-q", "origin.git", "checkout")
    folder = tmp_path / "checkout"
    for name in ("STATUS.md", "code.py"):
        (folder / name).write_text("old\n", encoding="utf-8")
    _git(folder, "checkout", "-q", "-b", "main")
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "Begin")
    _git(folder, "push", "-q", "origin", "main")
    monkeypatch.setattr(command, "ROOT", folder)
    return folder


def _commit() -> str:
    done = CliRunner().invoke(command.app, ["commit"])
    assert done.exit_code == 0, done.output
    return done.output


def test_only_the_page_is_committed_and_its_commit_starts_nothing(checkout: Path) -> None:
    (checkout / "STATUS.md").write_text("new\n", encoding="utf-8")
    (checkout / "code.py").write_text("changed\n", encoding="utf-8")

    _commit()

    assert _git(checkout, "show", "--name-only", "--format=", "origin/main") == "STATUS.md"
    assert "[skip ci]" in _git(checkout, "log", "-1", "--format=%B", "origin/main")


def test_the_first_page_of_a_project_is_committed(checkout: Path) -> None:
    _git(checkout, "rm", "-q", "STATUS.md")
    _git(checkout, "commit", "-q", "-m", "No page yet")
    _git(checkout, "push", "-q", "origin", "main")
    (checkout / "STATUS.md").write_text("first\n", encoding="utf-8")
    (checkout / "made.txt").write_text("by a test\n", encoding="utf-8")

    _commit()

    assert _git(checkout, "show", "--name-only", "--format=", "origin/main") == "STATUS.md"


def test_a_page_that_is_the_same_is_not_committed(checkout: Path) -> None:
    before = _git(checkout, "rev-parse", "HEAD")

    assert "as it was" in _commit()
    assert _git(checkout, "rev-parse", "HEAD") == before


def test_a_page_of_an_older_commit_does_not_go_onto_a_newer_one(checkout: Path) -> None:
    (checkout / "code.py").write_text("newer\n", encoding="utf-8")
    _git(checkout, "commit", "-qam", "Go on")
    _git(checkout, "push", "-q", "origin", "main")
    newest = _git(checkout, "rev-parse", "HEAD")
    _git(checkout, "reset", "-q", "--hard", "HEAD~")
    (checkout / "STATUS.md").write_text("new\n", encoding="utf-8")

    assert "moved on" in _commit()
    assert _git(checkout, "ls-remote", "origin", "main").split()[0] == newest
