"""The shares that hold further copies (LTS_COPIES), and what archiving does with them.

The copies come first and the first share's `bagit.txt` last: only that makes a data set archived. A share that is
missing holds publishing up, with the reason, until a deadline; then the data set stays in the landing zone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import stamina
import structlog

from archiver.config.settings import LtsSettings
from archiver.workflow.copies import CopyConflictError, CopyMissingError, CopyOrder, make_copy, seal_copy
from archiver.workflow.errors import ArchiverError, ClaimLostError, DamagedError, ServiceError, WrongShareError
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import FixityOutcome
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tools import read_identity

log = structlog.get_logger(__name__)


def _fact(number: int) -> str:
    return f"lts_copy_{number}_identity"


def identity_of_copy(ledger: Ledger, number: int) -> str | None:
    """The share that belongs to this place of LTS_COPIES, counted from 1; None before the first copy."""
    return ledger.remembered(_fact(number))


def known_copies(ledger: Ledger, roots: Sequence[Path]) -> list[ShareAddress]:
    """The shares that copies were written to before, mounted or not."""
    remembered = [(root, ledger.remembered(_fact(number))) for number, root in enumerate(roots, start=1)]
    return [ShareAddress(root, UUID(identity)) for root, identity in remembered if identity is not None]


def unnamed_copies(ledger: Ledger, roots: Sequence[Path]) -> int:
    """How many shares copies were written to before that `roots` does not name."""
    number = len(roots)
    while ledger.remembered(_fact(number + 1)) is not None:
        number += 1
    return number - len(roots)


def copy_address(ledger: Ledger, child: ChildProcess, first: ShareAddress, number: int, root: Path) -> ShareAddress:
    """The share of a copy; the one first seen at this place of LTS_COPIES stays the only one that is accepted.

    Raises:
        WrongShareError: none is mounted, another one, or one that is used already.
    """
    remembered = ledger.remembered(_fact(number))
    if remembered is None:
        mounted = child.call(read_identity, None, root)
        before = [ledger.remembered(_fact(earlier)) for earlier in range(1, number)]
        if str(mounted) in (str(first.identity), *before):
            raise WrongShareError(
                f"The share mounted at {root} ({mounted}) is in use already, as the first share or for another copy. "
                "Mount one of its own there, and give it its identity with 'archiver lts init --root'."
            )
        remembered = ledger.remember(_fact(number), str(mounted))
    return ShareAddress(root, UUID(remembered))


def _may_come(error: Exception) -> bool:
    """What is worth waiting for: the share, not the data or the claim."""
    return isinstance(error, ServiceError) and not isinstance(
        error, ClaimLostError | DamagedError | CopyConflictError | CopyMissingError
    )


@dataclass
class SecondCopies:
    """Copies of one data set, made by one attempt."""

    ledger: Ledger
    first: ShareAddress
    lts: LtsSettings
    monitor: Monitor
    pid: str
    attempt: str
    claim_holds: Callable[[], None]
    """Raises when the claim is lost; asked before each try."""
    on_progress: Progress

    def make(self) -> None:
        """Write the copies and prove them, waiting for shares that are missing.

        Raises:
            CopyMissingError: one could not be written in time.
            DamagedError: the first share does not hold what was proven.
            ClaimLostError: another run has the data set.
        """
        for number, root in enumerate(self.lts.lts_copies, start=1):
            try:
                self._make(number, root)
            except (ClaimLostError, DamagedError, CopyConflictError):
                raise
            except ServiceError as error:
                raise CopyMissingError(
                    f"Copy {number} of {self.pid} could not be written to {root} within "
                    f"{self.lts.lts_copies_timeout_s:.0f} s: {error} The data set is not published and stays in the "
                    "landing zone. Mend that share, or take it out of LTS_COPIES, then archive again."
                ) from error

    def _make(self, number: int, root: Path) -> None:
        for attempt in stamina.retry_context(
            on=_may_come,
            attempts=None,
            timeout=self.lts.lts_copies_timeout_s,
            wait_initial=1,
            wait_max=60,
        ):
            with attempt, self._noting(number, root), ChildProcess(self.lts.lts_stall_timeout_s) as child:
                self.claim_holds()
                order = CopyOrder(
                    source=self.first,
                    target=copy_address(self.ledger, child, self.first, number, root),
                    pid=self.pid,
                    attempt=self.attempt,
                    free_percent=self.lts.lts_free_space_percentage,
                )
                self.monitor.step(
                    f"write copy {number}",
                    lambda order=order, child=child: child.call(make_copy, self.on_progress, order),  # type: ignore[misc]
                    Limit.WRITE_LTS,
                )
                # From now on a copy that is not there is damage.
                for datablock in self.ledger.datablocks(self.pid):
                    copy = str(order.target.identity)
                    self.ledger.record_fixity(datablock.archive_id, FixityOutcome.OK, PROOF_READ, "as made", copy)

    @contextmanager
    def _noting(self, number: int, root: Path) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            self.monitor.note(f"publishing waits for copy {number} at {root}: {error}")
            raise

    def seal(self) -> None:
        """Make the copies read-only, once the data set is published; what cannot be done now is only told."""
        for address in known_copies(self.ledger, self.lts.lts_copies):
            try:
                with ChildProcess(self.lts.lts_stall_timeout_s) as child:
                    if not child.call(seal_copy, None, address, self.pid):
                        self.monitor.note(f"no copy at {address.root}: 'archiver lts heal {self.pid}' makes one")
            except ArchiverError as error:
                log.warning("copy_not_sealed", pid=self.pid, root=str(address.root), reason=str(error))
