"""Figures made of several measurements. Pure."""

import math
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number the mean of the two in the middle.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("No measurement was taken.")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least `share` (0 to 1) of them do not exceed (nearest rank).

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("No measurement was taken.")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio_of_medians(values: Sequence[float], others: Sequence[float]) -> float:
    """How many times as large the median of `values` is as that of `others`."""
    return median(values) / median(others)


def growth(small: tuple[int, float], large: tuple[int, float]) -> float:
    """What each further file adds, from (files, bytes) of two runs; never less than nothing.

    Raises:
        ValueError: both had the same number of files.
    """
    if small[0] == large[0]:
        raise ValueError("Two runs with the same number of files show no growth.")
    return max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
