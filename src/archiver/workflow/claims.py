"""Holding a claim for as long as the work takes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog

from archiver.workflow.errors import ClaimLostError, TransientError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import Claim, Stage

log = structlog.get_logger(__name__)


class Heartbeat:
    """Keeps a claim alive from a thread of its own, and tells when it was lost.

    A beat that cannot be sent for the moment is tried again at the next: the claim is lost only when the ledger
    says so, and every irreversible step asks the ledger itself.
    """

    def __init__(self, beat: Callable[[], None], every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._ended = threading.Event()
        self._lost: ClaimLostError | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._beat()
            except ClaimLostError as error:
                self._lost = error
                return
            except TransientError as error:
                log.warning("heartbeat_failed", error=str(error))

    def check(self) -> None:
        """Returns while the claim is not known to be lost.

        Raises:
            ClaimLostError: another run took it over.
        """
        if self._lost is not None:
            raise self._lost


@contextmanager
def claimed(ledger: Ledger, pid: str, holder: str, timeout: timedelta) -> Iterator[Claim]:
    """A data set claimed for a piece of work beside the runs; one the ledger did not know is forgotten after it, unless
    that work noted something of it.

    Raises:
        DatasetBusyError: a run is working on it.
        ClaimLostError: another one took it over meanwhile.
    """
    is_known = ledger.dataset(pid) is not None
    claim = ledger.claim_dataset(pid, holder, timeout)
    try:
        with Heartbeat(lambda: ledger.heartbeat(claim), timeout.total_seconds() / 4) as heart:
            yield claim
            heart.check()
        ledger.check_claim(claim)
        if not is_known:
            record = ledger.dataset(pid)
            if record is not None and record.stage is Stage.CLAIMED:
                ledger.forget_dataset(pid)
    finally:
        ledger.release_claim(claim)
