"""Figures that the tests note while they run, printed when all is over."""

from collections.abc import Callable

Note = Callable[[str, object], None]
"""Takes what was measured and its value."""

figures: list[tuple[str, object]] = []
