"""`python -m archiver.workflow.reconciliation_health`: whether the reconciliation service has passed lately."""

import sys
from datetime import UTC, datetime, timedelta

from archiver.config.settings import LedgerSettings, ReconciliationSettings
from archiver.workflow.errors import ArchiverError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.reconciliation import SERVICE

SLACK = timedelta(minutes=5)
"""A pass lists the landing zone of every expired upload, and waits for servers that are away."""


def is_healthy(beat: datetime | None, now: datetime, interval: timedelta) -> bool:
    """Whether the last pass is recent enough for a service that passes every `interval`."""
    return beat is not None and now - beat <= interval + SLACK


def main() -> int:
    """0 when it is well; else 1, with the reason."""
    interval = timedelta(seconds=ReconciliationSettings().reconciliation_interval_s)
    try:
        with Ledger.open(LedgerSettings()) as ledger:
            beat = ledger.last_beat(SERVICE)
    except ArchiverError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if is_healthy(beat, datetime.now(UTC), interval):
        return 0
    sys.stderr.write(f"The last pass of the reconciliation was {'never' if beat is None else beat.isoformat()}.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
