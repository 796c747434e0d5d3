"""The reconciliation service is well while it passes."""

from datetime import UTC, datetime, timedelta

import pytest

from archiver.workflow import reconciliation_health
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.reconciliation import SERVICE
from archiver.workflow.reconciliation_health import SLACK, is_healthy

_NOW = datetime(2026, 11, 25, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


def test_a_pass_within_its_interval_and_some_slack_is_recent() -> None:
    assert is_healthy(_NOW - _MINUTE - SLACK, _NOW, _MINUTE)
    assert not is_healthy(_NOW - _MINUTE - SLACK - timedelta(seconds=1), _NOW, _MINUTE)
    assert not is_healthy(None, _NOW, _MINUTE)


def test_a_service_without_its_database_is_not_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEDGER_URL", "postgresql+psycopg://ledger:x@127.0.0.1:9/ledger")

    assert reconciliation_health.main() == 1
    assert "did not answer" in capsys.readouterr().err


def test_it_is_well_once_it_has_passed(ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", ledger_url)
    before = reconciliation_health.main()

    ledger.beat(SERVICE)

    assert (before, reconciliation_health.main()) == (1, 0)
