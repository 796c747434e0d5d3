"""What was measured, as a table for people and as JSON for the next comparison. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.statistics import median


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure that must not exceed `most`, in its own unit."""

    most: float
    of: str = ""
    """What it is measured against, as `Y`; empty for a plain figure."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    server: str
    """S3 server."""
    subject: str
    """What it was measured on, as `A`."""
    figure: str
    unit: str
    values: tuple[float, ...]
    """Of each run, in order."""
    aim: Aim | None = None
    against: tuple[float, ...] = ()
    """What the aim is a multiple of, of each run; empty where it is a plain figure."""

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """Times the median of what it is measured against."""
        return self.value / median(self.against) if self.against else None

    @property
    def is_met(self) -> bool | None:
        """Whether the aim is; None where there is none."""
        if self.aim is None:
            return None
        return (self.value if self.ratio is None else self.ratio) <= self.aim.most


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where, when and of what the figures are."""

    machine: str
    commit: str
    date: str
    """ISO 8601, UTC."""
    factor: float
    """Share of the data sets' full size."""
    runs: int
    load_before: float
    """Processes that wanted a core before the first measurement, one minute's mean."""
    versions: Mapping[str, str] = field(default_factory=dict)


_HEAD = ("server", "on", "figure", "median", "lowest to highest", "times", "aim", "met")


def table(rows: Sequence[Row]) -> str:
    """The figures as a Markdown table."""
    lines = [f"| {' | '.join(_HEAD)} |", "|" + "---|" * len(_HEAD)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    ratio, aim, met = row.ratio, row.aim, row.is_met
    against = f" {aim.of}" if aim is not None and aim.of else ""
    return [
        row.server,
        row.subject,
        row.figure,
        f"{_number(row.value)} {row.unit}".rstrip(),
        f"{_number(min(row.values))} to {_number(max(row.values))}" if len(row.values) > 1 else "",
        "" if ratio is None else f"{ratio:.2f}{against}",
        "" if aim is None else f"≤ {aim.most:g}{against or (' ' + row.unit).rstrip()}",
        "" if met is None else "yes" if met else "**no**",
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def document(circumstances: Circumstances, rows: Sequence[Row]) -> str:
    """Everything as JSON."""
    figures = [{**asdict(row), "median": row.value, "ratio": row.ratio, "met": row.is_met} for row in rows]
    return json.dumps({**asdict(circumstances), "figures": figures}, indent=1, ensure_ascii=False) + "\n"


def page(circumstances: Circumstances, rows: Sequence[Row]) -> str:
    """Circumstances and table, to be put into a page of the documentation."""
    return (
        f"{circumstances.date}, commit {circumstances.commit}, {circumstances.machine}; "
        f"load before {circumstances.load_before:.1f}; medians of {circumstances.runs}; "
        f"{'the full data sets' if circumstances.factor == 1 else f'{circumstances.factor:g} of their size'}; "
        + ", ".join(f"{name} {version}" for name, version in circumstances.versions.items())
        + "\n\n"
        + table(rows)
    )
