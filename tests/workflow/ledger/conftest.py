"""What the ledger's tests share."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import UploadRecord


@pytest.fixture
def in_a_while() -> datetime:
    """A time of expiry that no test reaches."""
    return datetime.now(UTC) + timedelta(days=14)


@pytest.fixture
def at_once() -> Callable[[int, Sequence[Callable[[], object]]], list[object]]:
    """Runs calls on so many threads; results or exceptions in order of the calls."""

    def run(threads: int, calls: Sequence[Callable[[], object]]) -> list[object]:
        with ThreadPoolExecutor(threads) as pool:
            started = [pool.submit(call) for call in calls]
        return [future.exception() or future.result() for future in started]

    return run


@pytest.fixture
def reserve(ledger: Ledger, in_a_while: datetime) -> Callable[..., UploadRecord]:
    """Reserves space in a landing zone of 1000 bytes."""

    def call(
        pid: str = "20.500/a", size: int = 100, holder: str = "ana", expires_at: datetime | None = None
    ) -> UploadRecord:
        return ledger.reserve_upload(pid, holder, "p1", size, size, 1000, expires_at or in_a_while)

    return call
