"""What a demo shows: bars on a terminal, a line now and then in a log, and a table at the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

MEGABYTE = 1000**2
LINE_EVERY_S = 10.0
"""How often a log gets a line of progress."""
_DETAIL_WIDTH = 60


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage came to."""

    name: str
    files: int
    bytes: int
    seconds: float
    note: str = ""

    @property
    def rate(self) -> str:
        """Its speed, or nothing where it moved no bytes."""
        if not self.bytes or not self.seconds:
            return ""
        return f"{self.bytes / MEGABYTE / self.seconds:,.1f}"


class Meter(Protocol):
    """Shows how far a stage is."""

    def show(self, done_bytes: int, files: int, detail: str) -> None:
        """The stage has come so far."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Bar:
    """A bar on a terminal."""

    def __init__(self, console: Console, name: str, total_bytes: int) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn(f"{name:<18}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]:>22}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/]"),
            console=console,
        )
        self._total = total_bytes
        self._task: TaskID = self._progress.add_task(name, total=total_bytes or None, amount="", detail="")

    def show(self, done_bytes: int, files: int, detail: str) -> None:
        amount = f"{done_bytes / MEGABYTE:,.0f} of {self._total / MEGABYTE:,.0f} MB" if self._total else ""
        # A stage is finished when its block ends, not with its last byte.
        completed = min(done_bytes, max(self._total - 1, 0))
        self._progress.update(
            self._task, completed=completed, amount=amount, detail=escape(detail[:_DETAIL_WIDTH]), refresh=False
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            total = self._total or 1
            self._progress.update(self._task, total=total, completed=total, detail="")
        self._progress.stop()


class _Lines:
    """Lines in a log: how it begins, how it goes every few seconds, and when it ended."""

    def __init__(self, console: Console, name: str, total_bytes: int, clock: "Clock") -> None:
        self._console = console
        self._name = name
        self._total = total_bytes
        self._clock = clock
        self._began = self._shown = clock()

    def show(self, done_bytes: int, files: int, detail: str) -> None:
        now = self._clock()
        if now - self._shown < LINE_EVERY_S:
            return
        self._shown = now
        amount = f"{done_bytes / MEGABYTE:,.0f} of {self._total / MEGABYTE:,.0f} MB" if self._total else ""
        parts = [f"{now - self._began:.0f} s", amount, f"{files:,} files" if files else "", detail]
        self._line("  " + self._name, ", ".join(part for part in parts if part))

    def _line(self, name: str, text: str) -> None:
        self._console.print(f"{name}: {text}", markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        amount = f"{self._total / MEGABYTE:,.1f} MB" if self._total else "…"
        self._line(self._name, amount)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = "done" if error is None else "ended"
        self._line("  " + self._name, f"{ended} after {self._clock() - self._began:.1f} s")


class Clock(Protocol):
    """Seconds that only go forward."""

    def __call__(self) -> float:
        """Seconds, from any beginning."""


class Stage:
    """A stage that is going on. Thread-safe."""

    def __init__(self, meter: Meter, total_bytes: int) -> None:
        self._meter = meter
        self._total = total_bytes
        self._lock = threading.Lock()
        self._detail = ""
        self.bytes = 0
        """Moved so far."""
        self.files = 0
        """Done so far."""
        self.note = ""
        """For the table."""

    def advance(self, count: int, files: int = 0) -> None:
        """So many more bytes and files."""
        with self._lock:
            self.bytes += count
            self.files += files
            self._meter.show(self.bytes, self.files, self._detail)

    def reach(self, fraction: float) -> None:
        """This part of all bytes, from 0 to 1."""
        with self._lock:
            self.bytes = int(self._total * fraction)
            self._meter.show(self.bytes, self.files, self._detail)

    def describe(self, detail: str) -> None:
        """What is going on, in a few words."""
        with self._lock:
            self._detail = detail
            self._meter.show(self.bytes, self.files, detail)


class Display:
    """Where a demo is shown."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._results: list[StageResult] = []

    def say(self, text: str, style: str = "") -> None:
        """A line as it is."""
        self._console.print(text, style=style or None, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total_bytes: int = 0) -> Iterator[Stage]:
        """Show a stage while the block runs. One that ends well gets a line in the table."""
        meter = self._meter(name, total_bytes)
        began = self._clock()
        with meter:
            stage = Stage(meter, total_bytes)
            yield stage
        self._results.append(StageResult(name, stage.files, stage.bytes, self._clock() - began, stage.note))

    def _meter(self, name: str, total_bytes: int) -> Meter:
        if self._console.is_terminal:
            return _Bar(self._console, name, total_bytes)
        return _Lines(self._console, name, total_bytes, self._clock)

    def correct(self, name: str, *, files: int, size: int) -> None:
        """Put what a stage really moved in its line, where it could only be estimated on the way."""
        self._results = [
            replace(result, files=files, bytes=size) if result.name == name else result for result in self._results
        ]

    def table(self) -> None:
        """Every stage with what it moved and how fast."""
        table = Table(box=None, pad_edge=False)
        table.add_column("stage")
        for heading in ("files", "bytes", "seconds", "MB/s"):
            table.add_column(heading, justify="right")
        table.add_column("")
        for result in self._results:
            table.add_row(
                result.name,
                f"{result.files:,}" if result.files else "",
                f"{result.bytes:,}" if result.bytes else "",
                f"{result.seconds:,.1f}",
                result.rate,
                result.note,
            )
        self._console.print()
        self._console.print(table)
        self._console.print()
