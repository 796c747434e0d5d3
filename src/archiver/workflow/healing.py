"""Heal copies of a bag from one that is good: on an operator's command only, and after it was told what would be done.

Every copy is read whole first. What is wrong in a copy is set aside, never deleted, and replaced from a good one.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

import structlog

from archiver.workflow.claims import claimed
from archiver.workflow.copies import CopyOrder, CopyOutcome, make_copy, seal_copy
from archiver.workflow.errors import ArchiverError, DatasetBusyError, UnsafeNameError
from archiver.workflow.holdings.damage import Damage
from archiver.workflow.holdings.listing import Holdings, HoldingState
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.holdings.verification import verify_bag
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import FixityOutcome
from archiver.workflow.storage.lts import ShareAddress

log = structlog.get_logger(__name__)


class CopyState(StrEnum):
    """What one share holds of a data set."""

    GOOD = "good"
    DAMAGED = "damaged"
    MISSING = "missing"
    RETIRED = "retired"
    """The data set was withdrawn there."""
    AWAY = "away"
    """The share does not answer, or is not the one it must be."""


class HealOutcome(StrEnum):
    """What came of a data set."""

    GOOD = "good"
    TO_HEAL = "to heal"
    HEALED = "healed"
    RETIRED = "retired"
    """It was withdrawn; nothing is healed."""
    LOST = "no good copy"
    """No share holds all of it as it was; nothing was changed."""
    INCOMPLETE = "incomplete"
    """A share could not be reached, or not be healed."""
    BUSY = "busy"
    """A run is working on it."""


@dataclass(frozen=True, slots=True)
class SeenCopy:
    """A copy that was looked at."""

    root: str
    state: CopyState
    details: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    """Where files that were replaced lie now."""


@dataclass(frozen=True, slots=True)
class Health:
    """A data set on all shares."""

    pid: str
    outcome: HealOutcome
    copies: tuple[SeenCopy, ...] = ()
    detail: str = ""


class Healing:
    """The use case; `shares` are the first one and those of the copies, in their order."""

    def __init__(self, shares: Sequence[ShareAddress], stall_timeout_s: float, free_percent: float) -> None:
        self._shares = tuple(shares)
        self._stall_timeout_s = stall_timeout_s
        self._free_percent = free_percent

    def examine(self, pid: str, progress: Progress | None = None) -> Health:
        """Read all copies whole; nothing is changed."""
        copies = tuple(self._look_at(address, pid, progress) for address in self._shares)
        states = {copy.state for copy in copies}
        if CopyState.RETIRED in states:
            return Health(pid, HealOutcome.RETIRED, copies, "withdrawn: restore it first (archiver retire restore)")
        if CopyState.GOOD not in states:
            return Health(pid, HealOutcome.LOST, copies)
        if states & {CopyState.DAMAGED, CopyState.MISSING}:
            return Health(pid, HealOutcome.TO_HEAL, copies)
        return Health(pid, HealOutcome.GOOD if states == {CopyState.GOOD} else HealOutcome.INCOMPLETE, copies)

    def heal(
        self, pid: str, ledger: Ledger, holder: str, claim_timeout: timedelta, progress: Progress | None = None
    ) -> Health:
        """Make every copy what a good one is; what was wrong, and what became of it.

        Raises:
            ArchiverError: of the ledger.
        """
        try:
            with claimed(ledger, pid, holder, claim_timeout):
                health = self.examine(pid, progress)
                if health.outcome is not HealOutcome.TO_HEAL:
                    return health
                source = next(
                    address
                    for address, copy in zip(self._shares, health.copies, strict=True)
                    if copy.state is CopyState.GOOD
                )
                copies = tuple(
                    self._heal(source, address, copy, pid, progress)
                    for address, copy in zip(self._shares, health.copies, strict=True)
                )
                for address, before, after in zip(self._shares, health.copies, copies, strict=True):
                    if after.state is CopyState.GOOD:
                        detail = "" if before.state is CopyState.GOOD else f"healed from {source.root}"
                        copy = "" if address == self._shares[0] else str(address.identity)
                        for datablock in ledger.datablocks(pid):
                            ledger.record_fixity(datablock.archive_id, FixityOutcome.OK, PROOF_READ, detail, copy)
        except DatasetBusyError as error:
            return Health(pid, HealOutcome.BUSY, detail=str(error))
        is_whole = all(copy.state is CopyState.GOOD for copy in copies)
        return Health(pid, HealOutcome.HEALED if is_whole else HealOutcome.INCOMPLETE, copies)

    def _look_at(self, address: ShareAddress, pid: str, progress: Progress | None) -> SeenCopy:
        root = str(address.root)
        try:
            with ChildProcess(self._stall_timeout_s) as child:
                holding = Holdings(child, address).find(pid)
                if holding is not None and holding.state.is_withdrawn:
                    return SeenCopy(root, CopyState.RETIRED, (holding.note,))
                if holding is None or holding.state is not HoldingState.PUBLISHED:
                    return SeenCopy(root, CopyState.MISSING)
                damages: Sequence[Damage] = child.call(verify_bag, progress, address, pid, members=False).damages
        except UnsafeNameError:
            raise
        except ArchiverError as error:
            return SeenCopy(root, CopyState.AWAY, (str(error),))
        if damages:
            return SeenCopy(root, CopyState.DAMAGED, tuple(map(str, damages)))
        return SeenCopy(root, CopyState.GOOD)

    def _heal(
        self, source: ShareAddress, target: ShareAddress, copy: SeenCopy, pid: str, progress: Progress | None
    ) -> SeenCopy:
        if copy.state not in (CopyState.DAMAGED, CopyState.MISSING):
            return copy
        order = CopyOrder(source, target, pid, uuid.uuid4().hex[:16], self._free_percent, heal=True)
        try:
            with ChildProcess(self._stall_timeout_s) as child:
                done: CopyOutcome = child.call(make_copy, progress, order)
                child.call(seal_copy, None, target, pid)
        except ArchiverError as error:
            return replace(copy, details=(*copy.details, f"not healed: {error}"))
        log.info("copy_healed", pid=pid, root=str(target.root), files=done.files, set_aside=done.set_aside)
        after = self._look_at(target, pid, progress)
        return replace(after, details=(*copy.details, *after.details), set_aside=done.set_aside)
