"""What a demo shows: a readable log where there is no terminal, and a table of all stages."""

import io

import pytest
from rich.console import Console

from archiver.local.demo.display import LINE_EVERY_S, Display


class SteppedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


def test_a_log_gets_a_line_now_and_then_and_not_for_every_file(shown: io.StringIO, clock: SteppedClock) -> None:
    display = Display(Console(file=shown), clock)
    with display.stage("upload", 10_000_000) as stage:
        for _ in range(10_000):
            clock.now += 0.01
            stage.advance(1000, 1)
    seconds = 10_000 * 0.01
    assert len(shown.getvalue().splitlines()) <= 2 + seconds / LINE_EVERY_S
    assert "5 of 10 MB" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()


def test_a_terminal_gets_a_bar(shown: io.StringIO, clock: SteppedClock) -> None:
    display = Display(Console(file=shown, force_terminal=True, width=120), clock)
    with display.stage("upload", 10_000_000) as stage:
        stage.advance(4_000_000, 1)
        stage.describe("[brackets] are no markup")
    assert "upload" in shown.getvalue()
    assert "10 of 10 MB" in shown.getvalue() or "4 of 10 MB" in shown.getvalue()


def test_the_table_has_a_line_for_each_stage_with_its_speed(shown: io.StringIO, clock: SteppedClock) -> None:
    display = Display(Console(file=shown, width=120), clock)
    with display.stage("upload", 50_000_000) as stage:
        stage.advance(50_000_000, 7)
        clock.now += 2
    with display.stage("archive", 1) as stage:
        stage.note = "1 s until it began"
        clock.now += 3
    display.correct("archive", files=7, size=60_000_000)
    shown.truncate(0)
    display.table()

    upload, archive = (line for line in shown.getvalue().splitlines() if "MB/s" not in line and line.strip("\0 "))
    assert upload.split() == ["upload", "7", "50,000,000", "2.0", "25.0"]
    assert archive.split()[:5] == ["archive", "7", "60,000,000", "3.0", "20.0"]
    assert archive.endswith("1 s until it began")


def test_a_stage_that_failed_is_not_in_the_table(shown: io.StringIO, clock: SteppedClock) -> None:
    display = Display(Console(file=shown, width=120), clock)
    with pytest.raises(OSError, match="broken"), display.stage("upload", 1):
        raise OSError("broken")
    display.table()
    assert shown.getvalue().count("upload") == 2  # begun and ended
    assert "done" not in shown.getvalue()


def test_odd_names_are_shown_as_they_are(shown: io.StringIO) -> None:
    Display(Console(file=shown, width=30)).say("[red]a name[/] " + "x" * 50)
    assert shown.getvalue() == "[red]a name[/] " + "x" * 50 + "\n"
