"""Progress and the time to go."""

from datetime import UTC, datetime, timedelta

import pytest

from archiver.workflow.amounts import age_text, duration_text, size_text
from archiver.workflow.pace import Pace

GB = 10**9


def test_no_time_is_told_before_there_is_anything_to_go_by() -> None:
    pace = Pace(100 * GB, 0)
    pace.advance(GB, 5)

    assert pace.describe(5) == "1.00 GB of 100 GB"


def test_what_is_done_to_the_bytes_is_said_with_them() -> None:
    pace = Pace(200 * GB, 0, "written and read back")
    pace.advance(100 * GB, 100)

    assert pace.describe(100) == "100 GB of 200 GB written and read back, 1.00 GB/s, about 100 s to go"


def test_the_time_to_go_follows_the_pace_of_late_not_of_the_beginning() -> None:
    pace = Pace(1000 * GB, 0)
    for second in range(1, 101):
        pace.advance(5 * GB, second)  # half of it fast
    for second in range(101, 401):
        pace.advance(GB // 10, second)  # then slow

    assert pace.rate(400) == pytest.approx(GB / 10, rel=0.05)
    assert pace.describe(400) == "530 GB of 1.00 TB, 100 MB/s, about 78 min to go"


def test_what_stands_still_says_so_and_promises_nothing() -> None:
    pace = Pace(100 * GB, 0)
    for second in range(1, 31):
        pace.advance(GB, second)

    assert pace.describe(30 + 300) == "30.0 GB of 100 GB, nothing moved for 5 min"


def test_what_is_done_is_done() -> None:
    pace = Pace(100, 0)
    pace.advance(1000, 50)

    assert (pace.done, pace.percent, pace.describe(50)) == (100, 100.0, "100 B of 100 B")
    assert Pace(0, 0).percent == 100.0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345_678, "12.3 MB"),
        (999_600_000, "1.00 GB"),
        (50 * 10**12, "50.0 TB"),
        (123 * 10**12, "123 TB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_durations_are_told_in_one_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_an_age_is_told_from_the_moment() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)

    assert age_text(now - timedelta(hours=3), now) == "3 h"
    assert age_text(None) == "never"
