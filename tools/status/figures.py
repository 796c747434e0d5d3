"""What the benchmarks measured: the figures of the last runs here, and the newest at full size, which are kept in git.

CI measures nothing: its machines differ from day to day. So the page of main shows the figures that are kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OF_A_RUN = ("date", "commit", "machine", "factor", "runs")
_OF_A_FIGURE = ("server", "subject", "figure", "unit", "median", "ratio", "aim", "met")

Run = Mapping[str, Any]
"""What one run of the benchmarks wrote (`benchmarks.report.document`), or what is kept of it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of the speed."""

    runs: tuple[Run, ...] = ()
    """The oldest first."""
    unread: tuple[str, ...] = ()
    """Files whose figures are not among them, and why."""


def _run(document: Any) -> dict[str, Any]:
    """The part of a run that is shown.

    Raises:
        KeyError, TypeError: it has not what a run has.
    """
    run = {name: document[name] for name in _OF_A_RUN}
    return run | {"figures": [{name: figure[name] for name in _OF_A_FIGURE} for figure in document["figures"]]}


def read(folder: Path, kept: Path) -> Measured:
    """What the runs in `folder` measured, and what is kept in `kept`. A file that cannot be read is named."""
    runs, unread = [], []
    for file in (*([kept] if kept.exists() else []), *sorted(folder.glob("*.json"))):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            runs += [_run(each) for each in (found if isinstance(found, list) else [found])]
        except (OSError, ValueError, KeyError, TypeError) as error:
            unread.append(f"{file.name}: {type(error).__name__}: {error}")
    return Measured(tuple(sorted(runs, key=lambda run: str(run["date"]))), tuple(unread))


def newest(runs: Sequence[Run]) -> list[tuple[Run, list[Mapping[str, Any]]]]:
    """Each run with the figures that no better one has: the newest at full size, else the newest; in that order."""
    known: set[tuple[str, str, str]] = set()
    found = []
    latest = runs[::-1]
    for run in (*(each for each in latest if each["factor"] == 1), *(each for each in latest if each["factor"] != 1)):
        figures = [each for each in run["figures"] if (each["server"], each["subject"], each["figure"]) not in known]
        known |= {(each["server"], each["subject"], each["figure"]) for each in figures}
        figures = [each for each in figures if each["ratio"] is not None or each["aim"] is not None]
        if figures:
            found.append((run, figures))
    return found


def kept_text(runs: Sequence[Run]) -> str:
    """What is to be kept: of each figure the newest at full size, the oldest run first; as JSON."""
    whole = [{**run, "figures": figures} for run, figures in reversed(newest([r for r in runs if r["factor"] == 1]))]
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
