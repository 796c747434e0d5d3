"""Figures made of several measurements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.statistics import growth, median, percentile, ratio_of_medians

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


def test_the_median_of_three_is_the_one_in_the_middle() -> None:
    assert median([9.0, 1.0, 2.0]) == 2.0


def test_the_median_of_two_lies_between_them() -> None:
    assert median([1.0, 2.0]) == 1.5


@given(VALUES)
def test_half_of_the_values_do_not_exceed_the_median(values: list[float]) -> None:
    middle = median(values)

    assert 2 * sum(value <= middle for value in values) >= len(values)
    assert 2 * sum(value >= middle for value in values) >= len(values)


@pytest.mark.parametrize(("share", "expected"), [(0.95, 95.0), (0.5, 50.0), (1.0, 100.0), (0.0, 1.0)])
def test_percentiles_of_a_hundred_values_are_those_of_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


@given(VALUES, st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_a_ratio_compares_medians_and_not_single_runs() -> None:
    assert ratio_of_medians([2.0, 100.0, 4.0], [2.0, 1.0, 50.0]) == 2.0


def test_growth_is_what_each_further_file_adds() -> None:
    assert growth((1_000, 50_000.0), (11_000, 2_050_000.0)) == 200.0


def test_memory_that_shrinks_has_not_grown() -> None:
    assert growth((1_000, 50_000.0), (11_000, 40_000.0)) == 0.0


def test_no_figure_is_made_of_no_measurement() -> None:
    with pytest.raises(ValueError, match="No measurement"):
        median([])
    with pytest.raises(ValueError, match="No measurement"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="same number"):
        growth((5, 1.0), (5, 2.0))
