"""What a benchmark's table and file say."""

import json

from benchmarks.report import Aim, Circumstances, Row, document, page, table

WHERE = Circumstances("2 cores", "abc123", "2026-11-25T22:00+00:00", 1, 3, 0.5, {"rclone": "v1"})
PLAIN = Row("minio", "A", "by hand", "s", (21.0, 20.0, 25.0))
MET = Row("minio", "A", "archive", "s", (12.0, 11.0, 30.0), Aim(1.6, "Y"), (8.0, 7.5, 9.0))
MISSED = Row("minio", "A", "peak memory", "MB", (401.0,), Aim(400))


def _cells(row: Row) -> list[str]:
    return [cell.strip() for cell in table([row]).splitlines()[2].split("|")[1:-1]]


def test_a_row_shows_the_median_and_how_far_the_runs_lie_apart() -> None:
    assert _cells(PLAIN) == ["minio", "A", "by hand", "21 s", "20 to 25", "", "", ""]


def test_an_aim_that_is_a_multiple_is_compared_with_the_ratio_of_the_medians() -> None:
    assert MET.ratio == 1.5
    assert _cells(MET)[5:] == ["1.50 Y", "≤ 1.6 Y", "yes"]


def test_a_missed_aim_stands_out() -> None:
    assert _cells(MISSED)[3:] == ["401 MB", "", "", "≤ 400 MB", "**no**"]


def test_a_figure_without_an_aim_is_neither_met_nor_missed() -> None:
    assert PLAIN.is_met is None


def test_every_row_of_the_table_has_as_many_cells_as_its_head() -> None:
    widths = {line.count("|") for line in table([PLAIN, MET, MISSED]).splitlines()}

    assert len(widths) == 1


def test_the_file_names_machine_commit_and_date_and_keeps_every_run() -> None:
    read = json.loads(document(WHERE, [MET, MISSED]))

    assert (read["machine"], read["commit"], read["date"]) == ("2 cores", "abc123", WHERE.date)
    assert read["figures"][0]["values"] == [12.0, 11.0, 30.0]
    assert [figure["met"] for figure in read["figures"]] == [True, False]


def test_the_page_says_under_which_circumstances_the_table_was_made() -> None:
    first = page(WHERE, [MET]).splitlines()[0]

    for said in ("2 cores", "abc123", "load before 0.5", "medians of 3", "the full data sets", "rclone v1"):
        assert said in first
