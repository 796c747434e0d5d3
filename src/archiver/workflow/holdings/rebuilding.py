"""Make the ledger know again what lies on the share. The share is only read; the truth is there.

For a ledger that was lost, or restored from an older state: every published bag is adopted with its stage and
datablocks, and tombstones tell what was withdrawn. Reservations of uploads are not on the share; reconciliation finds
them in the landing zone.
"""

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import structlog

from archiver.workflow.datablocks.index import DatablockTotals
from archiver.workflow.errors import (
    NAMES_SHOWN,
    ArchiverError,
    ClaimLostError,
    DamagedError,
    DatasetBusyError,
    PermanentError,
    UnsafeNameError,
    WrongShareError,
    name_some,
)
from archiver.workflow.holdings.damage import Damage, DamageKind
from archiver.workflow.holdings.description import payload_of
from archiver.workflow.holdings.listing import Holding, Holdings, HoldingState
from archiver.workflow.holdings.reading import PROOF_READ, datablock_number, folder_of, index_of, read_totals
from archiver.workflow.holdings.verification import verify_bag
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.datasets import ARCHIVED, GONE, WITHDRAWN
from archiver.workflow.ledger.errors import LedgerNotMigratedError
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import (
    Claim,
    DatablockRecord,
    DatasetRecord,
    FixityOutcome,
    RetirementState,
    Stage,
)
from archiver.workflow.names import SMOKE_PREFIX, check_pid
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tombstones import Event, EventKind, find_event

log = structlog.get_logger(__name__)

_FIXITY = {
    DamageKind.MISSING: FixityOutcome.MISSING,
    DamageKind.UNREADABLE: FixityOutcome.UNREADABLE,
}


class AdoptionOutcome(StrEnum):
    """What came of a data set."""

    ADOPTED = "adopted"
    """The ledger knows it now (or would, in a dry run)."""
    KNOWN = "known"
    """The ledger knew all of it."""
    RETIRED = "retired"
    """The ledger knows now that it was withdrawn."""
    RESTORED = "restored"
    """The ledger knows now that its withdrawal was taken back."""
    BUSY = "busy"
    """A run is working on it; left to that run."""
    DAMAGED = "damaged"
    """Its bag is not as it must be; not adopted."""
    DISAGREES = "disagrees"
    """The ledger has it as archived, with other datablocks; neither was changed."""
    MISSING = "missing"
    """The ledger has it as archived, and there is no published bag; not changed."""
    NOT_PUBLISHED = "not published"
    OLDER = "older"
    """Of the older service; the share alone does not tell enough to adopt it."""
    UNREADABLE = "unreadable"

    @property
    def needs_attention(self) -> bool:
        """Whether somebody must look at it."""
        return self in (
            AdoptionOutcome.DAMAGED,
            AdoptionOutcome.DISAGREES,
            AdoptionOutcome.MISSING,
            AdoptionOutcome.UNREADABLE,
        )


_NOT_ADOPTED = {
    HoldingState.UNFINISHED: AdoptionOutcome.NOT_PUBLISHED,
    HoldingState.OLDER: AdoptionOutcome.OLDER,
    HoldingState.UNREADABLE: AdoptionOutcome.UNREADABLE,
}


@dataclass(frozen=True, slots=True)
class Adoption:
    """A data set on the share or in the ledger, and what came of it."""

    pid: str
    outcome: AdoptionOutcome
    datablocks: int = 0
    detail: str = ""
    event: EventKind | None = None
    """What was done last of withdrawing, restoring and removing it; None where it was never withdrawn."""


def recorded_totals(progress: Progress, address: ShareAddress, pid: str) -> list[DatablockTotals]:
    """The datablocks of a published bag, as its manifest and indexes agree on them; their bytes are not read.

    Raises:
        DamagedError: the two disagree, or with what lies there.
    """
    share = address.open()
    found = []
    for path, sha256 in payload_of(share, pid).items():
        progress(0)
        archive_id = f"{folder_of(pid)}/{path}"
        totals = read_totals(share, f"{folder_of(pid)}/{index_of(path)}")
        if (totals.archive_id, totals.sha256, totals.index) != (archive_id, sha256, datablock_number(path)):
            raise DamagedError(f"The index of {archive_id} is not that of the tar in the manifest.")
        size = share.size(archive_id)
        if size != totals.packed_size:
            there = "is missing" if size is None else f"has {size} bytes, {totals.packed_size} were written"
            raise DamagedError(f"{archive_id} {there}.")
        found.append(totals)
    if not found:
        raise DamagedError(f"The manifest of {pid} lists no datablock.")
    return found


def note_event_in_ledger(ledger: Ledger, claim: Claim, event: Event) -> None:
    """Make the ledger know what the share says of a withdrawal. The catalogue is still to be told.

    Raises:
        ClaimLostError: nothing was noted.
    """
    ledger.note_retirement(
        claim,
        RetirementState(event.kind),
        at=event.at,
        by=event.by,
        reason=event.reason,
        restorable_until=event.restorable_until,
        message=event.message,
        files=event.files,
        payload_bytes=event.payload_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be noted of a data set."""

    datablocks: tuple[DatablockRecord, ...]
    """Those to be written."""
    is_new: bool
    """The ledger does not have it as archived."""
    disagreement: str = ""


class LedgerRebuilding:
    """The use case. Safe to repeat, and beside the running service: a data set somebody works on is left alone."""

    def __init__(
        self,
        ledger: Ledger,
        child: ChildProcess,
        address: ShareAddress,
        claim_timeout: timedelta,
        *,
        verify: bool,
        dry_run: bool,
    ) -> None:
        """With `verify` all bags are read whole before they are adopted; else their datablocks stay unproven."""
        self._ledger = ledger
        self._child = child
        self._address = address
        self._claim_timeout = claim_timeout
        self._verify = verify
        self._dry_run = dry_run
        self._holder = f"rebuild-ledger {socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"

    def prepare(self) -> None:
        """Make the share the ledger's own, unless it has one, and bring its tables to this version's form.

        A dry run only looks. To be called before `rebuild`.

        Raises:
            WrongShareError: the ledger belongs to another share; nothing was changed.
            LedgerNotMigratedError: a dry run cannot look into a database without our tables.
        """
        try:
            remembered = self._ledger.remembered(LTS_IDENTITY)
        except LedgerNotMigratedError:
            if self._dry_run:
                raise
            remembered = None
        mounted = str(self._address.identity)
        if remembered in (None, mounted) and not self._dry_run:
            self._ledger.migrate()
            remembered = self._ledger.remember(LTS_IDENTITY, mounted)
        if remembered not in (None, mounted):
            raise WrongShareError(
                f"The ledger belongs to the share {remembered}; at {self._address.root} {mounted} is mounted. "
                "Mount the right one, or use another database for this one."
            )

    def rebuild(self, progress: Progress | None = None) -> Iterator[Adoption]:
        """Each data set on the share as it is done, then those the ledger has as archived and the share lacks.

        Raises:
            ArchiverError: the share or the ledger does not answer. What was adopted stays so.
        """
        holdings = Holdings(self._child, self._address)
        seen = set()
        for holding in holdings.walk():
            if holding.state.is_withdrawn or holding.state is HoldingState.PUBLISHED:
                seen.add(holding.pid)
                yield replace(self._settle(holding, progress), event=holding.event)
            else:
                if holding.state is HoldingState.UNREADABLE:
                    seen.add(holding.pid)  # which is all that is known of it: it is not called missing, too
                yield Adoption(holding.pid, _NOT_ADOPTED[holding.state], holding.datablocks or 0, holding.note)
        for record in self._ledger.datasets():
            if not _is_archived(record) or record.pid in seen or record.pid.startswith(f"{SMOKE_PREFIX}/"):
                continue
            found = holdings.find(record.pid)  # it may have been published since the walk came by
            if found is not None and found.state is HoldingState.UNREADABLE:
                yield Adoption(record.pid, AdoptionOutcome.UNREADABLE, found.datablocks or 0, found.note)
            elif found is None or not (found.state.is_withdrawn or found.state is HoldingState.PUBLISHED):
                what = "tombstone" if record.stage in WITHDRAWN else "published bag"
                detail = f"The ledger has it as {record.stage}, and there is no {what}. Look for it in the backup."
                yield Adoption(record.pid, AdoptionOutcome.MISSING, len(self._ledger.datablocks(record.pid)), detail)

    def _settle(self, holding: Holding, progress: Progress | None) -> Adoption:
        try:
            return self._follow_events(holding, progress)
        except ArchiverError:
            raise
        except Exception as error:
            # What nobody foresaw (a number in a tombstone that no database holds) is one data set's trouble: those
            # behind it must be looked at, and the walk is not tried again before long.
            log.exception("not_to_be_compared", pid=holding.pid)
            detail = f"Unexpected {type(error).__name__}: {error}. The log has the traceback."
            return Adoption(holding.pid, AdoptionOutcome.UNREADABLE, holding.datablocks or 0, detail)

    def _adopt(self, holding: Holding, progress: Progress | None) -> Adoption:
        pid = holding.pid
        try:
            totals = self._child.call(recorded_totals, None, self._address, check_pid(pid))
        except WrongShareError:
            raise
        except (PermanentError, UnsafeNameError) as error:
            return Adoption(pid, AdoptionOutcome.DAMAGED, holding.datablocks or 0, str(error))
        damages: tuple[Damage, ...] = ()
        if self._verify:
            damages = self._child.call(verify_bag, progress, self._address, pid, members=False).damages
        if damages:
            outcome, detail = AdoptionOutcome.DAMAGED, " ".join(f"{damage}." for damage in damages[:NAMES_SHOWN])
        else:
            outcome, detail = self._note(pid, totals)
        if self._verify and not self._dry_run:
            self._note_fixity(pid, totals, damages)
        return Adoption(pid, outcome, len(totals), detail)

    def _follow_events(self, holding: Holding, progress: Progress | None) -> Adoption:
        """Adopt what is there, and make the ledger know of a withdrawal, or that it was taken back.

        Where an older state of the share is mounted, nothing is changed: what it says was true once.
        """
        pid = holding.pid
        record = self._ledger.dataset(pid)
        known = record.stage if record is not None and record.stage in WITHDRAWN else None
        if known is None and not holding.state.is_withdrawn:
            return self._adopt_bag(holding, progress)
        try:
            event = self._child.call(find_event, None, self._address, check_pid(pid))
        except (DamagedError, UnsafeNameError) as error:
            return Adoption(pid, AdoptionOutcome.DAMAGED, holding.datablocks or 0, str(error))
        if event is None or self._is_outdated(known, event):
            there = "no tombstone" if event is None else f"a tombstone that says {event.kind} ({event.at:%Y-%m-%d})"
            detail = f"The ledger has it as {known}, and there is {there} on the share. Neither was changed."
            return Adoption(pid, AdoptionOutcome.DISAGREES, holding.datablocks or 0, detail)
        # Whatever is missing of the bag of one that is being removed.
        adoption = Adoption(pid, AdoptionOutcome.KNOWN) if event.kind.is_final else self._adopt_bag(holding, progress)
        if RetirementState(event.kind).stage is known:
            return adoption
        if not self._dry_run and (busy := self._note_event(pid, event)):
            return replace(adoption, outcome=AdoptionOutcome.BUSY, detail=busy)
        if adoption.outcome.needs_attention or adoption.outcome is AdoptionOutcome.BUSY:
            return adoption
        outcome = AdoptionOutcome.RESTORED if event.kind is EventKind.RESTORED else AdoptionOutcome.RETIRED
        return replace(adoption, outcome=outcome, detail=f"{event.kind} on {event.at:%Y-%m-%d} by {event.by}")

    def _adopt_bag(self, holding: Holding, progress: Progress | None) -> Adoption:
        if holding.state.has_bag:
            return self._adopt(holding, progress)
        return Adoption(holding.pid, AdoptionOutcome.KNOWN)

    def _is_outdated(self, known: Stage | None, event: Event) -> bool:
        """Whether the ledger knows what came after this event."""
        if known is None:
            return False
        stage = RetirementState(event.kind).stage
        if stage is not None:
            return WITHDRAWN.index(known) > WITHDRAWN.index(stage)
        if known in GONE:
            return True  # nothing is restored after that
        retirement = self._ledger.retirement(event.pid)
        return retirement is not None and event.at < retirement.at

    def _note_event(self, pid: str, event: Event) -> str:
        """Make the ledger know of it; why it could not be noted now, else nothing."""
        try:
            claim = self._ledger.claim_dataset(pid, self._holder, self._claim_timeout)
        except DatasetBusyError as error:
            return str(error)
        try:
            if self._child.call(find_event, None, self._address, pid) != event:
                return f"{pid} was withdrawn or restored while it was being looked at."
            note_event_in_ledger(self._ledger, claim, event)
        except ClaimLostError as error:
            return str(error)
        finally:
            self._ledger.release_claim(claim)
        log.info("retirement_noted", pid=pid, kind=event.kind)
        return ""

    def _note(self, pid: str, totals: Sequence[DatablockTotals]) -> tuple[AdoptionOutcome, str]:
        change = self._change(pid, totals)
        if change.disagreement:
            return AdoptionOutcome.DISAGREES, change.disagreement
        if not change.is_new and not change.datablocks:
            return AdoptionOutcome.KNOWN, ""
        if self._dry_run:
            return AdoptionOutcome.ADOPTED, ""
        try:
            claim = self._ledger.claim_dataset(pid, self._holder, self._claim_timeout)
        except DatasetBusyError as error:
            return AdoptionOutcome.BUSY, str(error)
        try:
            return self._write(claim, totals)
        except ClaimLostError as error:
            return AdoptionOutcome.BUSY, str(error)
        finally:
            self._ledger.release_claim(claim)

    def _write(self, claim: Claim, totals: Sequence[DatablockTotals]) -> tuple[AdoptionOutcome, str]:
        change = self._change(claim.pid, totals)  # again: a run may have ended in between
        if change.disagreement:
            return AdoptionOutcome.DISAGREES, change.disagreement
        if change.is_new:
            files, payload = sum(each.files for each in totals), sum(each.size for each in totals)
            self._ledger.adopt_dataset(claim, Stage.PUBLISHED, change.datablocks, files, payload)
        else:
            for datablock in change.datablocks:
                self._ledger.record_datablock(claim, datablock)
        log.info("adopted", pid=claim.pid, datablocks=len(totals), verified=self._verify)
        return AdoptionOutcome.ADOPTED, ""

    def _change(self, pid: str, totals: Sequence[DatablockTotals]) -> _Change:
        """What the ledger lacks."""
        record = self._ledger.dataset(pid)
        is_new = record is None or not _is_archived(record)
        known = {each.archive_id: each for each in self._ledger.datablocks(pid)}
        if not is_new:
            other = sorted(known.keys() - {each.archive_id for each in totals})
            other += [
                each.archive_id
                for each in totals
                if each.archive_id in known and known[each.archive_id].sha256 != each.sha256
            ]
            if other:
                reason = f"The ledger records datablocks that are not those of the bag: {name_some(other)}"
                return _Change((), is_new, reason)
        wanted = [self._datablock(pid, each, known.get(each.archive_id)) for each in totals]
        changed = wanted if is_new else [each for each in wanted if each != known.get(each.archive_id)]
        return _Change(tuple(changed), is_new)

    def _datablock(self, pid: str, totals: DatablockTotals, known: DatablockRecord | None) -> DatablockRecord:
        record = DatablockRecord(
            archive_id=totals.archive_id,
            pid=pid,
            index=totals.index,
            size=totals.size,
            packed_size=totals.packed_size,
            files=totals.files,
            sha256=totals.sha256,
            proof="",
            verified_at=None,
        )
        if known is not None and known.sha256 == totals.sha256 and known.verified_at is not None:
            return replace(record, proof=known.proof, verified_at=known.verified_at)
        if self._verify:
            return replace(record, proof=PROOF_READ, verified_at=datetime.now(UTC))
        return record

    def _note_fixity(self, pid: str, totals: Sequence[DatablockTotals], damages: Sequence[Damage]) -> None:
        found = {f"{folder_of(pid)}/{damage.path}": damage for damage in damages}
        for each in totals:
            damage = found.get(each.archive_id)
            outcome = FixityOutcome.OK if damage is None else _FIXITY.get(damage.kind, FixityOutcome.DAMAGED)
            self._ledger.record_fixity(each.archive_id, outcome, PROOF_READ, "" if damage is None else damage.detail)


def _is_archived(record: DatasetRecord) -> bool:
    """Whether there must be a bag: also where a run failed after publishing it."""
    return record.stage in ARCHIVED or record.archived_at is not None
