"""What the tools report, read into results. Pure: from the tool's exit code and text."""

import json
import re
from collections import Counter
from xml.etree import ElementTree

from tools.errors import ToolError
from tools.status.results import Outcome, Result

_DETAILS = 50


def _outcome(code: int) -> Outcome:
    return Outcome.PASSED if code == 0 else Outcome.FAILED


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def plain(title: str, code: int, output: str) -> Result:
    """A tool of which only the exit code and its last line are wanted."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return Result(title, _outcome(code), lines[-1] if lines else "")


def tests(title: str, code: int, junit: str) -> Result:
    """pytest, from its JUnit report.

    Exit codes that mean that tests did not run to their end (interrupted, an internal error) are failures whatever
    the report counts; so is a report of no test, and one that is cut off.
    """
    counts: Counter[str] = Counter()
    details = []
    try:
        cases = ElementTree.fromstring(junit).iter("testcase")  # noqa: S314  # nosec B314  # written by our own pytest
    except ElementTree.ParseError as error:
        return Result(title, Outcome.FAILED, f"they ended with {code}, and their report cannot be read: {error}")
    for case in cases:
        kind = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        counts[kind] += 1
        if kind in ("failure", "error"):
            details.append(f"{case.get('classname')}::{case.get('name')}")
    bad = counts["failure"] + counts["error"]
    good = code == 0 and not bad and counts["passed"] > 0
    seen = f"{counts['passed']:,} passed, {bad:,} failed, {counts['skipped']:,} skipped"
    if not good and not bad:
        seen += f"; they ended with {code}"
    return Result(title, Outcome.PASSED if good else Outcome.FAILED, seen, details=tuple(details[:_DETAILS]))


def coverage(report: str) -> Result:
    """How much of the service the tests ran, from coverage's JSON report. A number to look at, no limit to pass."""
    totals = json.loads(report)["totals"]
    seen = f"{totals['percent_covered']:.1f} % of {totals['num_statements']:,} statements"
    return Result("Coverage", Outcome.PASSED, seen)


def ruff(code: int, output: str) -> Result:
    """`ruff check --output-format json`."""
    found = json.loads(output or "[]")
    details = tuple(f"{each['filename']}:{each['location']['row']} {each['code']}" for each in found[:_DETAILS])
    return Result("Style (ruff check)", _outcome(code), _count(len(found), "finding"), details=details)


def types(code: int, output: str) -> Result:
    """mypy."""
    errors = tuple(line for line in output.splitlines() if ": error: " in line)
    return Result("Types (mypy strict)", _outcome(code), _count(len(errors), "error"), details=errors[:_DETAILS])


def imports(code: int, output: str) -> Result:
    """import-linter."""
    kept = re.search(r"Contracts: (\d+) kept, (\d+) broken", output)
    seen = f"{kept[1]} contracts kept, {kept[2]} broken" if kept else "no contract was checked"
    return Result("Imports (import-linter)", _outcome(code) if kept else Outcome.FAILED, seen)


def bandit(code: int, output: str) -> Result:
    """`bandit --format json`."""
    report = json.loads(output)
    found = report["results"]
    details = tuple(f"{each['filename']}:{each['line_number']} {each['test_id']}" for each in found[:_DETAILS])
    lines = report["metrics"]["_totals"]["loc"]
    seen = f"{_count(len(found), 'finding')} in {lines:,} lines"
    outcome = _outcome(code) if lines and not report["errors"] else Outcome.FAILED
    return Result("Insecure code (bandit)", outcome, seen, details=details)


def vulnerabilities(output: str) -> tuple[int, list[str]]:
    """How many packages pip-audit's JSON report looked up, and the vulnerabilities it names.

    Raises:
        ToolError: it is no such report.
    """
    try:
        packages = json.loads(output)["dependencies"]
        found = [
            f"{each['name']} {each['version']}: {entry['id']}" for each in packages for entry in each.get("vulns", ())
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError("pip-audit gave no report.") from error
    return sum("vulns" in each for each in packages), found
