"""The shares that hold further copies (LTS_COPIES), and what archiving does with them.

Which share has which place in the list is remembered in the ledger, until an operator has one forgotten.

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
from archiver.workflow.errors import (
    ArchiverError,
    ClaimLostError,
    DamagedError,
    ServiceError,
    UserError,
    WrongShareError,
)
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import FixityOutcome
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tools import read_identity

log = structlog.get_logger(__name__)


class CopyNotForgottenError(UserError):
    """A share of copies that is in use, or that the ledger does not know; nothing was forgotten."""

    code = "copy-not-forgotten"


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
    return len(_remembered_from(ledger, len(roots) + 1))


def _remembered_from(ledger: Ledger, first: int) -> list[UUID]:
    """The shares at this place of the list and those after it, without a gap."""
    found: list[UUID] = []
    while (identity := ledger.remembered(_fact(first + len(found)))) is not None:
        found.append(UUID(identity))
    return found


@dataclass(frozen=True, slots=True)
class GoneCopy:
    """A share of copies that can be forgotten."""

    number: int
    """Its place in LTS_COPIES, from 1."""
    identity: UUID
    datablocks: int
    """Those that had a copy there when it was read, or written, last."""
    remaining: tuple[UUID, ...]
    """The shares of copies that are left, in their order."""


def find_gone_copy(ledger: Ledger, child: ChildProcess, roots: Sequence[Path], number: int) -> GoneCopy:
    """The share at place `number`, which `roots` (LTS_COPIES as it is now) names no more.

    Raises:
        CopyNotForgottenError: it is named still, or there is none.
        WrongShareError: a share that is named is not mounted: which one is gone cannot be told.
    """
    known = _remembered_from(ledger, 1)
    if not 1 <= number <= len(known):
        raise CopyNotForgottenError(f"The ledger knows of {len(known)} shares with copies; none is number {number}.")
    identity = known[number - 1]
    remaining = (*known[: number - 1], *known[number:])
    mounted = [child.call(read_identity, None, root) for root in roots]
    if identity in mounted or len(mounted) > len(remaining):
        raise CopyNotForgottenError(
            f"Number {number} ({identity}) is not forgotten while LTS_COPIES names it: that names {len(roots)} shares, "
            f"the ledger knows of {len(known)}. Take it out there first, and in the Prefect variable lts_copies, so "
            "that no run writes to it. A new share in its place is named again afterwards."
        )
    left = iter(remaining)
    if not all(each in left for each in mounted):  # which takes them out of `left` in their order
        raise CopyNotForgottenError(
            f"Without number {number} the ledger would know these shares of copies: {', '.join(map(str, remaining))}. "
            f"Mounted where LTS_COPIES says are: {', '.join(map(str, mounted))}. Put them into that order."
        )
    return GoneCopy(number, identity, ledger.copies_on(str(identity)), remaining)


def forget_copy(ledger: Ledger, gone: GoneCopy) -> None:
    """Make the ledger forget a share; those after it move up by one place, as they have in LTS_COPIES.

    Raises:
        CopyNotForgottenError: it was forgotten meanwhile.
    """
    after = [_fact(number) for number in range(gone.number + 1, len(gone.remaining) + 2)]
    if not ledger.forget(_fact(gone.number), str(gone.identity), moving_up=after):
        raise CopyNotForgottenError(f"Share {gone.number} of LTS_COPIES is no longer {gone.identity}. Look again.")
    log.warning("copy_forgotten", number=gone.number, identity=str(gone.identity))


def copy_address(ledger: Ledger, child: ChildProcess, first: ShareAddress, number: int, root: Path) -> ShareAddress:
    """The share of a copy; the one first seen at this place of LTS_COPIES stays the only one that is accepted.

    Raises:
        WrongShareError: none is mounted, another one, or one that is used already.
    """
    found = address_of_copy(ledger, child, first, number, root)
    return ShareAddress(root, UUID(ledger.remember(_fact(number), str(found.identity))))


def address_of_copy(ledger: Ledger, child: ChildProcess, first: ShareAddress, number: int, root: Path) -> ShareAddress:
    """The share of a copy; where no copy was written yet, the one that is mounted there now, which may change.

    Raises:
        WrongShareError: there was no copy yet, and no share is mounted, or one that is used already.
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
        return ShareAddress(root, mounted)
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
