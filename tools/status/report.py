"""STATUS.md as text. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.status.figures import Measured, newest
from tools.status.results import Outcome, Result

_HEAD = """# Status

Written by `make status` from what ran, on main by CI; never by hand. A check that could not be done is "not run":
nothing is known of it then, good or bad.
"""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of what, when and where."""

    commit: str
    is_changed: bool
    """Whether files differ from the commit."""
    date: str
    machine: str
    version: str


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _benchmarks(measured: Measured) -> list[str]:
    lines = [f"* not read: {_cell(each)}" for each in measured.unread]
    if not measured.runs:
        return [*lines, "not run: there are no results here (`make bench` makes them)"]
    for run, figures in newest(measured.runs):
        size = "at full size" if run["factor"] == 1 else f"at {run['factor']:g} of the size"
        lines += [
            *([""] if lines else []),
            f"Measured {run['date']} at commit {run['commit']} on {run['machine']}; {size}, medians of {run['runs']}.",
            "",
            "| server | on | figure | median | times | aim | met |",
            "|---|---|---|---|---|---|---|",
            *map(_figure, figures),
        ]
    return lines


def _figure(figure: Mapping[str, Any]) -> str:
    ratio, aim = figure["ratio"], figure["aim"]
    against = f" {aim['of']}" if aim and aim["of"] else ""
    cells = (
        figure["server"],
        figure["subject"],
        figure["figure"],
        f"{figure['median']:,.3g} {figure['unit']}",
        "" if ratio is None else f"{ratio:.2f}{against}",
        "" if aim is None else f"≤ {aim['most']:g}{against or ' ' + figure['unit']}",
        {True: "yes", False: "**no**", None: ""}[figure["met"]],
    )
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def report(where: Circumstances, results: Sequence[Result], measured: Measured) -> str:
    """The whole of STATUS.md.

    Args:
        where: of what, when and where.
        results: the checks.
        measured: by the benchmarks.
    """
    changed = ", with changes that are not committed" if where.is_changed else ""
    rows = [
        f"| {_cell(result.title)} | {_marked(result.outcome)} | {_cell(result.seen)} | "
        f"{f'{result.seconds:,.0f} s' if result.seconds else ''} |"
        for result in results
    ]
    failures = [result for result in results if result.details]
    told = [
        line
        for result in failures
        for line in ["", f"### {result.title}", "", *(f"* `{_cell(detail)}`" for detail in result.details)]
    ]
    return "\n".join(
        [
            _HEAD,
            f"Version {where.version}, commit `{where.commit}`{changed}; {where.date}, {where.machine}.",
            "",
            "| check | outcome | seen | took |",
            "|---|---|---|---|",
            *rows,
            *(["", "## What failed", *told] if told else []),
            "",
            "## Speed",
            "",
            *_benchmarks(measured),
            "",
        ]
    )


def _marked(outcome: Outcome) -> str:
    return str(outcome) if outcome is Outcome.PASSED else f"**{outcome}**"
