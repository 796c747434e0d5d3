"""Withdraw a data set from the archive, restore it, and, much later, remove it: in two steps each, never silently.

    archived → requested → retired (a tombstone; the bag is whole) → restored
                                                                   → removing → removed (the tombstone stays)

The event on the first share decides (`archiver.workflow.tombstones`). Copies, ledger and catalogue follow, in this
order, each made to agree by calling again, or by reconciliation. So a crash leaves a data set that is withdrawn
already where it counts, or one that is not withdrawn yet.
"""

import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from archiver.workflow.archiving import lifecycle_of_archived
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.claims import claimed
from archiver.workflow.datablocks.index import DatablockTotals
from archiver.workflow.errors import (
    ArchiverError,
    DamagedError,
    PermanentError,
    UnknownDatasetError,
    UnsafeNameError,
    UserError,
    WrongShareError,
)
from archiver.workflow.holdings.listing import ALSO_OLDER, Holdings, HoldingState
from archiver.workflow.holdings.rebuilding import note_event_in_ledger, recorded_totals
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import Claim, DatablockRecord, RetirementRecord, RetirementState, Stage
from archiver.workflow.ledger.uploads import LIVE
from archiver.workflow.names import PAYLOAD_FOLDER, bag_folder, check_pid
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tombstones import Event, EventKind, RecordedTar, find_event, note_event, remove_bag

log = structlog.get_logger(__name__)

CONFIRM_WITHIN = timedelta(days=1)
"""How long a word confirms what it was given for."""


class RetirementStateError(UserError):
    """What is asked for does not fit the state that the data set is in."""

    code = "retirement-state"


@dataclass(frozen=True, slots=True)
class Preview:
    """What a step is about."""

    pid: str
    name: str
    """In the catalogue; empty where that does not have the data set."""
    owner_group: str
    is_public: bool
    """Whether the catalogue shows it to everybody."""
    files: int
    payload_bytes: int
    datablocks: int
    packed_bytes: int
    shares: tuple[str, ...]
    """Where its bag lies: roots."""
    restorable_until: datetime
    reason: str
    damage: str = ""
    """Why its bag is not whole, and whether the ledger tells what is in it then; empty where it is."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """What is in a bag."""

    files: int
    payload_bytes: int
    tars: tuple[RecordedTar, ...]
    damage: str = ""
    """Why the bag is not whole."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step came to."""

    pid: str
    kind: EventKind
    at: datetime
    restorable_until: datetime
    was_done: bool = False
    """It had been done before; what was left of it was done now."""
    left: tuple[str, ...] = ()
    """What could not be done yet: give the command again, when that is mended."""


def lifecycle_of_withdrawn(message: str, storage_location: str, *, is_removed: bool) -> dict[str, Any]:
    """What the catalogue must say of a data set that is withdrawn. SciCat's pages know the two words."""
    return {
        "archivable": False,
        "retrievable": False,
        "archiveStatusMessage": "deleted" if is_removed else "markedForDeletion",
        "archiveReturnMessage": message,
        "storageLocation": storage_location,
    }


def is_of_bag(pid: str, archive_id: str) -> bool:
    """Whether a datablock of the catalogue is one of the bag of `pid`, not of the older service."""
    return archive_id.startswith(f"{bag_folder(pid)}/{PAYLOAD_FOLDER}/")


def tell_retirement(catalogue: Catalogue, ledger: Ledger, storage_location: str, pid: str) -> RetirementRecord | None:
    """Make catalogue and retrieval bucket agree with what the ledger has of a withdrawal; None where they did.

    Only for the holder of the claim on the data set.

    Raises:
        ArchiverError: one of them could not be told; to be tried again.
    """
    record = ledger.retirement(pid)
    if record is None or record.told:
        return None
    if record.state.stage is not None:
        ledger.expire_copies(bag_folder(pid))
    try:
        # First what users read: removing datablocks is a right that the service may not have yet.
        catalogue.update_lifecycle(
            pid,
            lifecycle_of_archived(storage_location)
            if record.state is RetirementState.RESTORED
            else lifecycle_of_withdrawn(
                record.message, storage_location, is_removed=record.state is RetirementState.REMOVED
            ),
        )
        if record.state is RetirementState.REMOVED:
            for block in catalogue.datablocks(pid, with_files=False):
                if is_of_bag(pid, block.archive_id):
                    catalogue.remove_datablock(pid, block)
    except UnknownDatasetError as error:
        log.warning("withdrawal_of_unknown_dataset", pid=pid, reason=str(error))
    ledger.mark_retirement_told(record)
    log.info("withdrawal_told", pid=pid, state=record.state)
    return record


@dataclass(frozen=True, slots=True)
class Retiring:
    """The use case. Whatever takes `dry_run` only tells what it would do.

    Raises what the share, the ledger and the catalogue raise.
    """

    catalogue: Catalogue
    ledger: Ledger
    share: ShareAddress
    copies: Sequence[ShareAddress]
    child: ChildProcess
    """In which the shares are touched."""
    storage_location: str
    restorable_for: timedelta
    claim_timeout: timedelta
    by: str
    """Who does it, for the record."""

    # ------------------------------------------------------------------------------------------ withdrawn

    def request(self, pid: str, reason: str, *, dry_run: bool) -> tuple[Preview, str]:
        """Tell what would be withdrawn, and the word with which it can be; without one in a dry run.

        Raises:
            RetirementStateError: the data set is not archived, not by this service, or withdrawn already.
        """
        check_pid(pid)
        event = self._event(pid)
        if event is not None and event.kind.is_withdrawn:
            raise RetirementStateError(event.message)
        contents = self._look(pid)
        self._must_be_archived(pid)
        before = self.ledger.retirement(pid)
        if before is not None and before.state is RetirementState.RESTORED:
            raise RetirementStateError(
                f"{pid} was restored, and the catalogue is still to be told, which reconciliation does. Try again then."
            )
        preview = self._preview(pid, contents, self.ledger.now() + self.restorable_for, reason)
        if dry_run:
            return preview, ""
        word = secrets.token_hex(3)
        if not self.ledger.request_retirement(pid, self.by, reason, word, CONFIRM_WITHIN):
            raise RetirementStateError(
                f"The ledger has {pid} as withdrawn, and its tombstone is not on the share. Nothing was changed. Look "
                "at what 'archiver reconcile' says before anything else is done with this data set."
            )
        return preview, word

    def confirm(self, pid: str, word: str, *, dry_run: bool) -> Outcome:
        """Withdraw a data set, as it was asked for; done before, only what is left of it.

        Raises:
            RetirementStateError: nobody asked, or with another word, or too long ago.
            DatasetBusyError: a run is working on it.
        """
        event = self._event(check_pid(pid))
        if event is not None and event.kind is EventKind.RETIRED:
            return self._carry_out(pid, event, event, dry_run=dry_run, was_done=True)
        if event is not None and event.kind.is_final:
            raise RetirementStateError(event.message)
        contents = self._look(pid)

        def asked_for() -> RetirementRecord:
            self._must_be_archived(pid)
            return self._asked_for(pid, RetirementState.REQUESTED, word, f"archiver retire {pid}")

        asked, now = asked_for(), self.ledger.now()
        wanted = Event(
            pid=pid,
            kind=EventKind.RETIRED,
            at=now,
            by=self.by if self.by == asked.by else f"{asked.by}, confirmed by {self.by}",
            reason=asked.reason,
            restorable_until=now + self.restorable_for,
            files=contents.files,
            payload_bytes=contents.payload_bytes,
            datablocks=contents.tars,
        )
        return self._carry_out(pid, event, wanted, asked_for, dry_run=dry_run)

    # ------------------------------------------------------------------------------------------ restored

    def restore(self, pid: str, *, dry_run: bool) -> Outcome | None:
        """Take a withdrawal back, also after its time while nothing was removed; None: only the request for one.

        Raises:
            RetirementStateError: it is not withdrawn, or its removal has begun.
            DatasetBusyError: a run is working on it.
        """
        event = self._event(check_pid(pid))
        if event is not None and event.kind.is_final:
            raise RetirementStateError(event.message)
        record = self.ledger.retirement(pid)
        if event is not None and event.kind is EventKind.RETIRED:
            restored = event.then(EventKind.RESTORED, self.ledger.now(), self.by)
            return self._carry_out(pid, event, restored, dry_run=dry_run)
        if record is not None and record.state is RetirementState.REQUESTED:
            if not dry_run:
                self.ledger.drop_retirement_request(pid)
            return None
        if event is None:
            raise RetirementStateError(f"{pid} is not withdrawn; there is nothing to restore.")
        return self._carry_out(pid, event, event, dry_run=dry_run, was_done=True)

    # ------------------------------------------------------------------------------------------ removed

    def request_removal(self, pid: str, *, dry_run: bool) -> tuple[Preview, str]:
        """Tell what would be removed for good, and the word with which it can be; without one in a dry run.

        Raises:
            RetirementStateError: it is not withdrawn, or not for long enough.
        """
        event = self._removable(check_pid(pid))
        if event.kind is EventKind.REMOVED:
            raise RetirementStateError(event.message)
        contents = _Contents(event.files, event.payload_bytes, event.datablocks)
        preview = self._preview(pid, contents, event.restorable_until, event.reason)
        if dry_run:
            return preview, ""
        word = secrets.token_hex(3)
        with claimed(self.ledger, pid, self._holder, self.claim_timeout) as claim:
            if self._event(pid) != event:
                raise _changed(pid)
            note_event_in_ledger(self.ledger, claim, event)  # a crash may have come before it was
            if not self.ledger.request_removal(pid, word, CONFIRM_WITHIN):
                raise RetirementStateError(
                    f"The removal of {pid} has begun; go on with it: archiver retire remove {pid}"
                )
        return preview, word

    def remove(self, pid: str, word: str, *, dry_run: bool) -> Outcome:
        """Remove the bag of a withdrawn data set from all shares; begun before, go on (which needs no word).

        Raises:
            RetirementStateError: it is not withdrawn for long enough, or the word is not right.
            DatasetBusyError: a run is working on it.
        """
        event = self._removable(check_pid(pid))
        if event.kind is not EventKind.RETIRED:
            return self._carry_out(pid, event, event, dry_run=dry_run, was_done=event.kind is EventKind.REMOVED)

        def asked_for() -> RetirementRecord:
            return self._asked_for(pid, RetirementState.RETIRED, word, f"archiver retire remove {pid}")

        asked_for()
        removing = event.then(EventKind.REMOVING, self.ledger.now(), self.by)
        return self._carry_out(pid, event, removing, asked_for, dry_run=dry_run)

    def has_begun_removal(self, pid: str) -> bool:
        """Whether it can only be gone on with."""
        event = self._event(check_pid(pid))
        return event is not None and event.kind.is_final

    def _removable(self, pid: str) -> Event:
        event = self._event(pid)
        if event is None or not event.kind.is_withdrawn:
            raise RetirementStateError(f"{pid} is not withdrawn. Withdraw it first: archiver retire {pid}")
        if event.kind is EventKind.RETIRED and self.ledger.now() < event.restorable_until:
            raise RetirementStateError(
                f"{pid} can be restored until {event.restorable_until:%Y-%m-%d %H:%M} UTC, and is kept until then."
            )
        return event

    # ------------------------------------------------------------------------------------------ what all have in common

    @property
    def _holder(self) -> str:
        return f"retirement by {self.by} {uuid.uuid4().hex[:8]}"

    def _event(self, pid: str) -> Event | None:
        return self.child.call(find_event, None, self.share, pid)

    def _look(self, pid: str) -> _Contents:
        """What is in the bag on the first share, by what that says, or by the ledger where it is damaged.

        Raises:
            RetirementStateError: there is no bag that could be withdrawn.
            DamagedError: neither of them tells.
        """
        holding = Holdings(self.child, self.share).find(pid)
        if holding is None or holding.state is not HoldingState.PUBLISHED:
            state = "not on the share" if holding is None else f"on the share as {holding.state}"
            raise RetirementStateError(f"{pid} is {state}; only archived data sets can be withdrawn.")
        if ALSO_OLDER in holding.note:
            raise RetirementStateError(f"{pid} {ALSO_OLDER}. It cannot be withdrawn by this command.")
        recorded, damage = self._read_totals(pid)
        totals: Sequence[DatablockTotals | DatablockRecord] = recorded or self.ledger.datablocks(pid)
        if not totals:
            raise DamagedError(f"{damage} The ledger does not know either which datablocks {pid} has. It was kept.")
        return _Contents(
            sum(each.files for each in totals),
            sum(each.size for each in totals),
            tuple(RecordedTar(each.archive_id, each.packed_size, each.sha256) for each in totals),
            f"{damage} What is in it is told by the ledger." if damage else holding.note,
        )

    def _read_totals(self, pid: str) -> tuple[list[DatablockTotals], str]:
        """The datablocks as the bag records them; none, and why, where it is damaged."""
        try:
            return self.child.call(recorded_totals, None, self.share, pid), ""
        except WrongShareError:
            raise
        except (PermanentError, UnsafeNameError) as error:
            return [], str(error)

    def _must_be_archived(self, pid: str) -> None:
        """Archived to the end: once it is withdrawn, no run goes on with it, nor empties its landing zone."""
        record = self.ledger.dataset(pid)
        if record is None or record.archived_at is None:
            raise RetirementStateError(
                f"The ledger does not know yet that {pid} is archived. Let it learn that from the share "
                "(archiver reconcile), then try again."
            )
        if record.stage is not Stage.EMPTIED and not self._was_registered(pid, record.stage):
            raise RetirementStateError(
                f"The ledger has {pid} as {record.stage}: its archive job has not ended. Let it end (archiver jobs; "
                "archiver retry), or have it archived again where there is no job any more, which writes nothing "
                "twice. Then try again."
            )
        upload = self.ledger.find_upload(pid)
        if upload is not None and upload.state in LIVE:
            raise RetirementStateError(
                f"The landing zone still holds what was uploaded of {pid} ({upload.state}): its archive job has not "
                "ended. Let it end (archiver jobs; archiver retry), or end the upload, then try again."
            )

    def _was_registered(self, pid: str, stage: Stage) -> bool:
        """Whether a run came to its end that the ledger does not know of: what it learnt from the share is `published`.

        Where the catalogue does not have the data set, no run can go on with it.
        """
        if stage is not Stage.PUBLISHED:
            return False
        try:
            registered = {block.archive_id for block in self.catalogue.datablocks(pid, with_files=False)}
        except UnknownDatasetError:
            return True
        return registered.issuperset(block.archive_id for block in self.ledger.datablocks(pid))

    def _asked_for(self, pid: str, state: RetirementState, word: str, again: str) -> RetirementRecord:
        """The request that `word` confirms.

        Raises:
            RetirementStateError: it confirms none.
        """
        asked = self.ledger.retirement(pid)
        if asked is None or asked.state is not state or not asked.word or asked.word != word.strip().lower():
            raise RetirementStateError(f"That is not the word for {pid}. Nothing was changed. Ask for one: {again}")
        if asked.word_until is None or asked.word_until < self.ledger.now():
            raise RetirementStateError(f"That word for {pid} is too old. Nothing was changed. Ask for another: {again}")
        return asked

    def _preview(self, pid: str, contents: _Contents, restorable_until: datetime, reason: str) -> Preview:
        name, owner_group, is_public = "", "", False
        try:
            dataset = self.catalogue.dataset(pid)
            name, owner_group = dataset.name, dataset.owner_group
            is_public = dataset.document.get("isPublished") is True
        except UnknownDatasetError as error:
            log.info("dataset_not_in_catalogue", pid=pid, reason=str(error))
        return Preview(
            pid=pid,
            name=name,
            owner_group=owner_group,
            is_public=is_public,
            files=contents.files,
            payload_bytes=contents.payload_bytes,
            datablocks=len(contents.tars),
            packed_bytes=sum(each.packed_size for each in contents.tars),
            shares=tuple(str(address.root) for address in (self.share, *self.copies)),
            restorable_until=restorable_until,
            reason=reason,
            damage=contents.damage,
        )

    def _carry_out(
        self,
        pid: str,
        seen: Event | None,
        event: Event,
        asked_for: Callable[[], object] | None = None,
        *,
        dry_run: bool,
        was_done: bool = False,
    ) -> Outcome:
        """Make `event` the newest everywhere: on the first share, the copies, in the ledger and the catalogue.

        `seen` is what it was decided upon. That and the request, which `asked_for` raises without, were looked at
        before the claim: they must still hold under it, unless somebody else has done the same meanwhile.
        """
        if dry_run:
            return Outcome(pid, event.kind, event.at, event.restorable_until, was_done)
        left: list[str] = []
        with claimed(self.ledger, pid, self._holder, self.claim_timeout) as claim:
            now = self._event(pid)
            if now is not None and now.kind is event.kind:
                event = now
            elif now != seen:
                raise _changed(pid)
            elif asked_for is not None:
                asked_for()
            event = self._note(claim, event, left)
            if event.kind.is_final:
                event = self._remove(claim, event, left)
            if event.kind is EventKind.RESTORED:
                self._must_be_whole(pid, left)
            with _kept(left, "the catalogue"):
                tell_retirement(self.catalogue, self.ledger, self.storage_location, pid)
        log.warning("dataset_" + event.kind, pid=pid, by=event.by, reason=event.reason, left=left)
        return Outcome(pid, event.kind, event.at, event.restorable_until, was_done, tuple(left))

    def _note(self, claim: Claim, event: Event, left: list[str]) -> Event:
        attempt = uuid.uuid4().hex[:16]
        self.ledger.check_claim(claim)
        noted = self.child.call(note_event, None, self.share, event, attempt) or event
        for copy in self.copies:
            with _kept(left, f"the share at {copy.root}"):
                self.child.call(note_event, None, copy, noted, attempt)
        note_event_in_ledger(self.ledger, claim, noted)
        return noted

    def _remove(self, claim: Claim, event: Event, left: list[str]) -> Event:
        """Remove the bags, the first share's last: until it says `removed`, something may be left to do."""
        for address in (*self.copies, self.share):
            self.ledger.check_claim(claim)
            with _kept(left, f"the share at {address.root}"):
                if files := self.child.call(remove_bag, None, address, event.pid):
                    log.warning("bag_removed", pid=event.pid, root=str(address.root), files=files)
        if left:
            return event
        return self._note(claim, event.then(EventKind.REMOVED, self.ledger.now(), event.by), left)

    def _must_be_whole(self, pid: str, left: list[str]) -> None:
        """A bag that is not is restored as well: only so can it be read, and healed from a copy."""
        _, damage = self._read_totals(pid)
        if damage:
            left.append(f"the bag is not whole: {damage} See 'when the only copy is damaged' in the documentation")


def _changed(pid: str) -> RetirementStateError:
    return RetirementStateError(f"{pid} was changed by somebody else meanwhile. Look at it again.")


@contextmanager
def _kept(left: list[str], what: str) -> Iterator[None]:
    """What fails is noted; the rest goes on."""
    try:
        yield
    except ArchiverError as error:
        left.append(f"{what}: {error}")
        log.warning("retirement_not_carried_out", what=what, reason=str(error))
