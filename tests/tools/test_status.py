"""STATUS.md: what the tools say is read rightly, and what could not be done is never called passed."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import tools.status.__main__ as command
from tools.errors import ToolError
from tools.status import figures, readings
from tools.status.audit import KNOWN_VULNERABLE, audit
from tools.status.checks import CHECKS, Check, UnendedError, look, run
from tools.status.figures import Measured
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


def test_a_report_that_was_cut_off_is_a_failure() -> None:
    result = readings.tests("Tests", 137, FAILING[:100])

    assert result.outcome is Outcome.FAILED
    assert "ended with 137, and their report cannot be read" in result.seen


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

    page = report(WHERE, results, Measured())

    assert "commit `0123abc`; 2026-01-02" in page
    assert "| Tests | **failed** | 1 passed, 1 failed | 61 s |" in page
    assert r"| Audit | **not run** | no \| answer there |  |" in page
    assert "* `tests.a::test_two`" in page
    assert "not run: there are no results here" in page
    assert "with changes that are not committed" in report(replace(WHERE, is_changed=True), results, Measured())


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

    page = report(WHERE, [], Measured((measured,)))

    assert "Measured 2026-01-01 at commit 0987fed on here; at full size, medians of 3." in page
    assert "| minio | A | archive | 12.3 s | 1.55 Y | ≤ 1.6 Y | yes |" in page
    assert "| **no** |" in page
    assert "yardstick" not in page


def test_of_each_figure_the_page_shows_the_one_measured_last() -> None:
    figure = {"server": "minio", "figure": "archive", "unit": "s", "ratio": None, "aim": {"most": 9, "of": ""}}

    def run(commit: str, **medians: float) -> dict[str, Any]:
        figures = [{**figure, "subject": name, "median": value, "met": True} for name, value in medians.items()]
        return {**RUN, "commit": commit, "factor": 0.25, "figures": figures}

    page = report(WHERE, [], Measured((run("0000001", A=1.5, B=2.5), run("0000002", A=3.5))))

    assert page.index("0000002") < page.index("0000001")
    assert "at 0.25 of the size" in page
    assert "| A | archive | 3.5 s |" in page
    assert "| B | archive | 2.5 s |" in page
    assert "1.5 s" not in page


FIGURE = {"server": "minio", "subject": "A", "figure": "archive", "unit": "s", "ratio": 1.5, "aim": None, "met": None}


def _bench(date: str, factor: float, median: float) -> dict[str, Any]:
    figure = {**FIGURE, "median": median, "values": [median], "against": []}
    return {**RUN, "date": date, "factor": factor, "versions": {}, "figures": [figure]}


def _write(file: Path, document: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")


def test_a_later_run_at_less_than_full_size_does_not_displace_figures_at_full_size(tmp_path: Path) -> None:
    _write(tmp_path / "bench" / "1.json", _bench("2026-01-01", 1, 12.0))
    _write(tmp_path / "bench" / "2.json", _bench("2026-01-02", 0.02, 0.5))

    page = report(WHERE, [], figures.read(tmp_path / "bench", tmp_path / "numbers.json"))

    assert "| minio | A | archive | 12 s |" in page
    assert "0.5 s" not in page


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"figures": [{}]}', "\N{BOM}{"], ids=str)
def test_figures_that_cannot_be_read_are_named_and_the_others_shown(tmp_path: Path, text: str) -> None:
    _write(tmp_path / "bench" / "1.json", _bench("2026-01-01", 1, 12.0))
    (tmp_path / "bench" / "2.json").write_text(text, encoding="utf-8")

    page = report(WHERE, [], figures.read(tmp_path / "bench", tmp_path / "numbers.json"))

    assert "* not read: 2.json: " in page
    assert "| minio | A | archive | 12 s |" in page


def test_what_is_kept_of_the_benchmarks_is_shown_where_none_ran_and_gives_way_to_newer_ones(tmp_path: Path) -> None:
    kept = tmp_path / "numbers.json"
    _write(tmp_path / "bench" / "1.json", _bench("2026-01-01", 1, 12.0))
    _write(tmp_path / "bench" / "2.json", _bench("2026-01-02", 0.02, 0.5))
    kept.write_text(figures.kept_text(figures.read(tmp_path / "bench", kept).runs), encoding="utf-8")
    _write(tmp_path / "newer" / "3.json", _bench("2026-01-03", 1, 11.0))

    nothing_ran = report(WHERE, [], figures.read(tmp_path / "none", kept))
    some_ran = report(WHERE, [], figures.read(tmp_path / "newer", kept))

    assert "Measured 2026-01-01 at commit 0987fed on here; at full size" in nothing_ran
    assert "| minio | A | archive | 12 s |" in nothing_ran
    assert "| minio | A | archive | 11 s |" in some_ran
    assert "12 s" not in some_ran


def test_the_figures_that_are_kept_can_be_shown() -> None:
    measured = figures.read(Path("none"), command.KEPT)

    assert measured.runs
    assert not measured.unread
    assert all(each["factor"] == 1 for each in measured.runs)


# ---------------------------------------------------------------------------------------------- command


def _raise(error: Exception) -> list[Result]:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        ToolError("mypy cannot be started"),
        ValueError("no JSON"),
        IndexError("no line"),
        TypeError("no number"),
        PermissionError("no log"),
        ElementTree.ParseError("no XML"),
    ],
)
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


def test_a_check_that_does_not_end_is_ended_with_all_it_started_and_is_failed_not_only_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tools.status.checks.FOLDER", tmp_path)
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    # The process in the background holds the pipe open as long as it lives; it outlives the shell that started it.
    script = f"exec 3>{tmp_path}/alive; echo begun >&3; sleep 60 & exec 3>&-; wait"
    try:
        with pytest.raises(UnendedError) as caught:
            run("waiting", ["sh", "-c", script], timeout_s=1)
        os.set_blocking(alive, True)
        said = b"".join(iter(lambda: os.read(alive, 100), b""))
    finally:
        os.close(alive)

    (result,) = look(Check("Tests", lambda: _raise(caught.value)))

    assert said == b"begun\n"
    assert result.outcome is Outcome.FAILED


def test_a_run_that_is_ended_early_leaves_a_page_of_what_it_saw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pages = []

    def end() -> list[Result]:
        pages.append((tmp_path / "STATUS.md").read_text(encoding="utf-8"))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "PAGE", tmp_path / "STATUS.md")
    checks = [Check("Types", lambda: [Result("Types", Outcome.PASSED, "")]), Check("Tests", end)]
    monkeypatch.setattr(command, "CHECKS", checks)

    CliRunner().invoke(command.app, ["write"])

    assert (tmp_path / "STATUS.md").read_text(encoding="utf-8") == pages[0]
    assert "| Types | passed |" in pages[0]
    assert "| Tests | **not run** | the run was ended before it |" in pages[0]


def test_what_another_job_of_ci_runs_is_not_run_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "PAGE", tmp_path / "STATUS.md")
    monkeypatch.setattr(command, "CHECKS", [replace(each, look=lambda: _raise(AssertionError())) for each in CHECKS])
    words = [each.title for each in CHECKS if "Stack" not in each.title]

    CliRunner().invoke(command.app, ["write", *(word for each in words for word in ("--elsewhere", each))])
    page = (tmp_path / "STATUS.md").read_text(encoding="utf-8")

    assert page.count("it has one of its own in CI") == len(words)


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
