"""Ledger against share: the share is walked a stretch at a time, for as long as it takes.

    ledger says archived, bag missing or another one    alarm; nothing is repaired by itself
    bag there, ledger does not know                     adopted as unproven; the next audit reads it first
    tombstone there, ledger does not know               noted; the catalogue is told afterwards
    tombstone there, and not on a share of copies       brought along (`tombstone_copies`)
    files of dead attempts in a bag without `bagit.txt` removed, under the claim on the data set

Everything that touches the share runs in a child process that is killed when it hangs.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from archiver.config.settings import LtsSettings, ReconciliationSettings
from archiver.workflow.bags import take_turn, unfinished_files
from archiver.workflow.claims import claimed
from archiver.workflow.dry_run import DryChild
from archiver.workflow.error_codes import COPIES_AWAY
from archiver.workflow.errors import (
    NAMES_SHOWN,
    ArchiverError,
    ClaimLostError,
    DatasetBusyError,
    PermanentError,
    UnsafeNameError,
)
from archiver.workflow.holdings.rebuilding import Adoption, AdoptionOutcome, LedgerRebuilding
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.notifications import Channel, Nobody, Weight
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tombstone_copies import TombstoneCopies
from archiver.workflow.tools import read_identity

log = structlog.get_logger(__name__)

_STALL_S = 60.0
"""A look at a folder takes no longer; what else is to be reconciled must not wait for a share that hangs."""
_COPIES_DIFFER = "copies differ"
"""Kind of a disagreement: a share of copies says something else of a withdrawal than the first share."""
_PAUSE_S = 900.0
"""Before a share that could not be walked is tried again."""


@dataclass(frozen=True, slots=True)
class ShareFinding:
    """What was done, or what somebody must look at."""

    text: str
    is_alarm: bool = False


class ShareComparison:
    """One walk after another. Use it in `with`: it keeps a child process between stretches."""

    def __init__(
        self,
        ledger: Ledger,
        lts: LtsSettings,
        settings: ReconciliationSettings,
        claim_timeout: timedelta,
        holder: str,
        channel: Channel | None = None,
        *,
        dry_run: bool = False,
    ) -> None:
        """`holder` names who claims data sets here; `channel` is told of disagreements when they appear.

        A `dry_run` leaves the share as it is, and needs a ledger that leaves itself as it is (`DryLedger`): then the
        findings are what would be done.
        """
        self._ledger = ledger
        self._root: Path = lts.lts_root_folder
        self._roots_of_copies = lts.lts_copies
        self._settings = settings
        self._claim_timeout = claim_timeout
        self._holder = holder
        self._channel = channel or Nobody()
        self._untold: list[str] = []
        """Disagreements that appeared, and of which the channel has not taken a message."""
        self._dry_run = dry_run
        self._child = (DryChild if dry_run else ChildProcess)(min(lts.lts_stall_timeout_s, _STALL_S))
        self._address: ShareAddress | None = None
        self._copies: TombstoneCopies | None = None
        self._walk: Iterator[Adoption] | None = None
        self._disagreeing: set[str] = set()
        """Data sets of this walk."""
        self._next_at = time.monotonic()
        self._trouble: ArchiverError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close()

    def go_on(self, *, to_the_end: bool = False) -> Iterator[ShareFinding]:
        """What the next stretch of the walk finds; nothing while no walk is due. The channel is told at its end.

        `to_the_end` makes a whole walk, due or not.

        Raises:
            ArchiverError: the share or the ledger does not answer, or another share is mounted. Raised again by
                each call until it is time for another try, so that it is not taken for settled.
        """
        try:
            yield from self._walk_on(to_the_end)
        finally:
            self._tell()

    def _walk_on(self, to_the_end: bool) -> Iterator[ShareFinding]:
        if self._walk is None and not to_the_end and time.monotonic() < self._next_at:
            if self._trouble is not None:
                raise self._trouble
            return
        with self._troubles_kept():
            if self._walk is None:
                self._walk = self._begin()
            until = time.monotonic() + self._settings.reconciliation_share_stretch_s
            for adoption in self._walk:
                yield from self._settle(adoption)
                if not to_the_end and time.monotonic() >= until:
                    return
            for pid in self._ledger.settle_disagreements(self._disagreeing):
                yield ShareFinding(f"ledger and share agree on {pid} again")
            self._walk, self._trouble = None, None
            self._next_at = time.monotonic() + 3600 * self._settings.reconciliation_share_hours

    @contextmanager
    def _troubles_kept(self) -> Iterator[None]:
        try:
            yield
        except ArchiverError as error:
            self._give_up(error)
            raise
        except Exception as error:
            # A walk that was broken off must not be taken for one that came to its end.
            self._give_up(PermanentError(f"Unexpected {type(error).__name__}: {error}. See the log of reconciliation."))
            raise

    def _give_up(self, error: ArchiverError) -> None:
        self._walk, self._trouble = None, error
        self._next_at = time.monotonic() + _PAUSE_S
        self._child.close()

    def _begin(self) -> Iterator[Adoption]:
        self._disagreeing = set()
        mounted = self._child.call(read_identity, None, self._root)
        identity = uuid.UUID(self._ledger.remember(LTS_IDENTITY, str(mounted)))
        self._address = ShareAddress(self._root, identity)  # where another one is mounted, the walk says so
        self._copies = TombstoneCopies(
            self._ledger,
            self._child,
            self._address,
            self._roots_of_copies,
            self._claim_timeout,
            self._holder,
            dry_run=self._dry_run,
        )
        return LedgerRebuilding(
            self._ledger, self._child, self._address, self._claim_timeout, verify=False, dry_run=False
        ).rebuild()

    def _settle(self, found: Adoption) -> Iterator[ShareFinding]:
        if found.outcome is AdoptionOutcome.ADOPTED:
            yield ShareFinding(
                f"{found.pid} is on the share and the ledger did not know all of it: adopted, "
                f"{found.datablocks} datablocks; the next audit reads them"
            )
        elif found.outcome in (AdoptionOutcome.RETIRED, AdoptionOutcome.RESTORED):
            yield ShareFinding(f"the ledger learnt from the share that {found.pid} was {found.detail}")
        elif found.outcome is AdoptionOutcome.NOT_PUBLISHED:
            yield from self._clear(found.pid)
        elif found.outcome.needs_attention:
            yield self._disagreement(found.pid, found.outcome, found.detail)
        elif found.outcome is AdoptionOutcome.BUSY:
            self._disagreeing.add(found.pid)  # or what was noted of it would be settled, though nobody looked
        if found.event is not None and found.outcome is not AdoptionOutcome.DISAGREES:
            yield from self._bring_along(found.pid)

    def _disagreement(self, pid: str, kind: str, detail: str) -> ShareFinding:
        self._disagreeing.add(pid)
        text = f"ledger and share disagree on {pid} ({kind}): {detail}"
        if self._ledger.record_disagreement(pid, kind, detail):
            log.error("ledger_and_share_disagree", pid=pid, kind=kind, detail=detail)
            self._untold.append(text)
        return ShareFinding(text, is_alarm=True)

    def _bring_along(self, pid: str) -> Iterator[ShareFinding]:
        """Shares of copies that were away when a data set was withdrawn or restored learn of it."""
        assert self._copies is not None  # noqa: S101  # a walk has begun
        for followed in self._copies.follow(pid):
            if followed.is_away:
                self._ledger.count_stuck_task(COPIES_AWAY)  # of no one data set
                yield ShareFinding(followed.trouble, is_alarm=True)
            elif followed.event is None:
                yield self._disagreement(pid, _COPIES_DIFFER, followed.trouble)
            else:
                yield ShareFinding(f"the copies at {followed.root} learnt that {pid} was {followed.event.kind}")

    def _tell(self) -> None:
        """One message for all: where a part of the share is gone, there is a disagreement on each data set there."""
        if not self._untold:
            return
        more = len(self._untold) - NAMES_SHOWN
        lines = [*self._untold[:NAMES_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        title = f"Archiver: ledger and share disagree on {len(self._untold)} data sets"
        if self._channel.send(title, "\n".join(lines), Weight.FAILURE):
            self._untold = []

    def _clear(self, pid: str) -> Iterator[ShareFinding]:
        """Remove what dead attempts left of a data set that is not published: whoever works on it has the claim."""
        address = self._address
        assert address is not None  # noqa: S101  # a walk has begun
        try:
            if not self._child.call(unfinished_files, None, address, pid):
                return
            with claimed(self._ledger, pid, self._holder, self._claim_timeout):
                removed = self._child.call(take_turn, None, address, pid, uuid.uuid4().hex[:16], from_scratch=False)
        except (DatasetBusyError, ClaimLostError, UnsafeNameError):
            return
        if removed:
            yield ShareFinding(f"{len(removed)} unfinished files of dead attempts at {pid} removed from the share")
