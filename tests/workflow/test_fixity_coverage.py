"""The arithmetic of audits: does the budget read the archive within its period?"""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from archiver.config.settings import TERABYTE, FixitySettings
from archiver.workflow.fixity_coverage import Coverage


def settings(**changes: float) -> FixitySettings:
    known = {"fixity_hours": 6.0, "fixity_terabytes": 20.0, "fixity_period_days": 365.0}
    return FixitySettings.model_validate(known | changes)


def test_a_budget_that_suffices_is_told_without_advice() -> None:
    coverage = Coverage(7300 * TERABYTE, None, settings())

    assert coverage.suffices
    assert "each of 365 audits must read 20.000 TB; the budget is 20 TB" in coverage.message
    assert "Raise" not in coverage.message


def test_a_budget_of_bytes_that_is_too_small_is_told_with_the_days_it_takes() -> None:
    coverage = Coverage(7300 * TERABYTE, None, settings(fixity_terabytes=10))

    assert not coverage.suffices
    assert "at 10.000 TB an audit it takes 730 days. Raise FIXITY_TERABYTES" in coverage.message


def test_the_rate_that_was_measured_counts_too() -> None:
    """100 MB/s for six hours are 2.16 TB, whatever the budget of bytes allows."""
    coverage = Coverage(7300 * TERABYTE, 100e6, settings())

    assert not coverage.suffices
    assert coverage.possible == pytest.approx(2.16 * TERABYTE)
    assert "6 h at 0.360 TB an hour" in coverage.message


def test_audits_that_come_less_often_must_read_more() -> None:
    weekly = Coverage(52 * TERABYTE, None, settings(fixity_every_hours=168, fixity_period_days=364))

    assert weekly.audits == 52
    assert weekly.needed == TERABYTE


@hypothesis_settings(deadline=None)  # no timed tests
@given(
    archive=st.integers(0, 10**19),
    rate=st.none() | st.floats(1, 1e11),
    terabytes=st.floats(0.001, 1e6),
    hours=st.floats(0.1, 1000),
)
def test_it_suffices_exactly_when_as_many_audits_as_the_period_has_read_everything(
    archive: int, rate: float | None, terabytes: float, hours: float
) -> None:
    coverage = Coverage(archive, rate, settings(fixity_terabytes=terabytes, fixity_hours=hours))

    if coverage.suffices:
        assert coverage.possible * coverage.audits >= archive * (1 - 1e-9)
    else:
        assert coverage.possible * coverage.audits < archive * (1 + 1e-9)
        assert "Raise" in coverage.message
