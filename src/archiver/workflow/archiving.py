"""Archive a data set: from the landing zone into a checked bag on the long-term storage.

    claimed → planned → written (per datablock) → verified → published → registered → landing emptied

Each stage is recorded in the ledger and provable from the media. A run that comes again goes on after the last
finished stage, verifying what it adopts. Nothing but `commit_bag` publishes, and nothing is deleted from the
landing zone before the bag is published and the catalogue, read back, knows it.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import stamina
import structlog

from archiver.config.settings import MEBIBYTE
from archiver.workflow.bags import (
    BagContents,
    BagState,
    commit_bag,
    fetch_plan,
    free_space,
    index_path,
    inspect_bag,
    prepare_bag,
    read_members,
    recorded_datablocks,
    store_plan,
    take_turn,
    turn_path,
)
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Datablock, DatablockFile
from archiver.workflow.claims import Heartbeat, claimed
from archiver.workflow.datablocks.entries import Entry, mode_text
from archiver.workflow.datablocks.index import DatablockTotals, Member
from archiver.workflow.datablocks.plan import PlanSettings, deal_out, plan_lines, read_plan
from archiver.workflow.errors import (
    ArchiverError,
    ClaimLostError,
    DatasetBusyError,
    LedgerDisagreesError,
    NoSpaceError,
    OtherContentError,
    RetiredError,
    TransientError,
    UnknownDatasetError,
    UserError,
    VerificationError,
)
from archiver.workflow.inventory import Inventory
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.datasets import ARCHIVED, WITHDRAWN
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import Claim, DatablockRecord, Stage
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.names import archive_id, check_pid, dataset_prefix
from archiver.workflow.second_copies import SecondCopies
from archiver.workflow.storage.s3_records import StoredObject
from archiver.workflow.tombstones import refuse_withdrawn
from archiver.workflow.tools import Tools
from archiver.workflow.transfer import (
    PackOrder,
    ProveOrder,
    object_sha256,
    pack_datablock,
    prove_datablock,
)

log = structlog.get_logger(__name__)

DATABLOCK_VERSION = "1.0"
CHECKSUM_ALGORITHM = "sha256"
_WRITE_ATTEMPTS = 2
"""A datablock that does not read back as written is written again once."""


@dataclass(frozen=True, slots=True)
class ArchiveOutcome:
    """What archiving a data set came to."""

    pid: str
    files: int
    payload_bytes: int
    datablocks: tuple[DatablockTotals, ...]
    extra: tuple[str, ...] = ()
    """Files that were archived though the catalogue does not list them."""
    left_in_landing: tuple[str, ...] = ()
    """Keys that were not planned, or changed since, and therefore stay."""
    was_archived: bool = False
    """The data set had been archived before this run."""
    was_read_back: bool = True
    """Every datablock was read back by this run; else what earlier runs recorded stands for it."""

    @property
    def unproven(self) -> int:
        """Files without any checksum from before they reached the archive."""
        return sum(totals.unproven for totals in self.datablocks)

    @property
    def message(self) -> str:
        """The outcome in words."""
        done = "was archived already" if self.was_archived else "archived"
        parts = [
            f"{done}: {self.files} files, {self.payload_bytes} bytes in {len(self.datablocks)} datablocks, "
            + ("read back and proven" if self.was_read_back else "proven when they were archived")
        ]
        if self.extra:
            parts.append(f"{len(self.extra)} files were not in the catalogue's list and were archived too")
        if self.unproven:
            parts.append(f"{self.unproven} files had no checksum to prove their origin")
        if self.left_in_landing:
            parts.append(f"{len(self.left_in_landing)} objects stay in the landing zone, not part of the archived set")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _PlannedDatablock:
    index: int
    offset: int
    """Where its lines begin in the scratch plan."""
    entries: int
    payload: int


@dataclass(slots=True)
class _Plan:
    file: Path
    datablocks: list[_PlannedDatablock] = field(default_factory=list)
    files: int = 0
    extra: tuple[str, ...] = ()
    """Files nobody listed."""
    goes_on: bool = False
    """It is the plan of an earlier run, whose datablocks count."""

    @property
    def payload(self) -> int:
        return sum(datablock.payload for datablock in self.datablocks)

    def entries(self) -> Iterator[Entry]:
        with self.file.open(encoding="ascii") as lines:
            for _, entry in read_plan(lines)[2]:
                yield entry

    def survey(self) -> None:
        """Find where each datablock's lines begin, and count."""
        with self.file.open("rb") as lines:
            offset = len(lines.readline())
            members = read_plan(line.decode() for line in _replayed(self.file))[2]
            self.datablocks.clear()
            self.files = 0
            for line, (index, entry) in zip(lines, members, strict=True):
                if not self.datablocks or self.datablocks[-1].index != index:
                    self.datablocks.append(_PlannedDatablock(index, offset, 0, 0))
                last = self.datablocks[-1]
                self.datablocks[-1] = replace(last, entries=last.entries + 1, payload=last.payload + entry.size)
                self.files += not entry.is_folder
                offset += len(line)


def _replayed(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines


class Archiving:
    """The use case, for one data set at a time."""

    def __init__(self, tools: Tools, monitor: Monitor) -> None:
        self._tools = tools
        self._monitor = monitor

    def archive(self, pid: str, holder: str) -> ArchiveOutcome:
        """Archive `pid`, or go on where an earlier run stopped.

        `holder` names the run; another one's claim is respected until its heartbeat ends.

        Raises:
            UserError: the data set is not as it must be; it stays in the landing zone.
            DatasetBusyError: another run is working on it.
            ArchiverError: anything else; what was finished stays, and a new run goes on from there.
        """
        check_pid(pid)
        tools = self._tools
        claim = self._claim(pid, holder)
        log.info("claimed", pid=pid, fence=claim.fence, holder=holder)
        scratch_root = tools.settings.archiver_scratch_folder
        scratch_root.mkdir(parents=True, exist_ok=True)
        try:
            with (
                Heartbeat(lambda: tools.ledger.heartbeat(claim), tools.settings.claim_timeout_s / 4) as heart,
                ChildProcess(tools.lts.lts_stall_timeout_s) as child,
                TemporaryDirectory(prefix="archive-", dir=scratch_root) as scratch,
            ):
                return _Run(tools, self._monitor, claim, heart, child, Path(scratch)).run()
        except ArchiverError as error:
            _settle_failure(tools, claim, error)
            raise
        finally:
            _release(tools.ledger, claim)

    def _claim(self, pid: str, holder: str) -> Claim:
        settings = self._tools.settings
        for attempt in stamina.retry_context(
            on=DatasetBusyError, attempts=None, timeout=settings.claim_wait_s, wait_initial=1, wait_max=30
        ):
            with attempt:
                if attempt.num > 1:
                    self._monitor.note("another run is working on this data set; waiting for it")
                claim = self._tools.ledger.claim_dataset(pid, holder, timedelta(seconds=settings.claim_timeout_s))
        return claim


def report_archiving_failure(
    catalogue: Catalogue, ledger: Ledger, pid: str, error: ArchiverError, claim_timeout: timedelta
) -> None:
    """Tell the catalogue that archiving `pid` failed for good, in the words of `error`.

    `claim_timeout` is how long a claim without heartbeat is respected.

    Says nothing where another run is at work, nor of a data set that is withdrawn: that is told by whoever withdraws or
    restores it, under the claim, and is the last word. Never calls an archived data set anything else.

    Raises:
        CatalogueError: it could not be told.
    """
    if isinstance(error, DatasetBusyError | ClaimLostError | UnknownDatasetError | RetiredError):
        return
    record = ledger.dataset(pid)
    changes: dict[str, Any] = {"archiveReturnMessage": str(error)}
    if record is not None and record.archived_at is not None:
        # Only what is archived can be withdrawn: not between this look at the ledger and what is told.
        with (
            suppress(DatasetBusyError, ClaimLostError),
            claimed(ledger, pid, f"report of a failure {uuid.uuid4().hex[:8]}", claim_timeout),
        ):
            if _is_given_out(ledger, pid):
                catalogue.update_lifecycle(pid, changes | {"archivable": False})
        return
    if isinstance(error, UserError):
        changes |= {"archivable": True, "retrievable": False, "archiveStatusMessage": "missingFilesError"}
    else:
        changes |= {"archivable": False, "retrievable": False, "archiveStatusMessage": "scheduleArchiveJobFailed"}
    catalogue.update_lifecycle(pid, changes)


def _is_given_out(ledger: Ledger, pid: str) -> bool:
    """Whether it is not withdrawn, as far as the ledger knows."""
    record = ledger.dataset(pid)
    return record is None or record.stage not in WITHDRAWN


def _settle_failure(tools: Tools, claim: Claim, error: ArchiverError) -> None:
    """Note a failure, if it is one; where the ledger does not answer, the failure itself is what is told.

    Raises:
        ClaimLostError: the run was replaced. Whatever went wrong in it then is of no account: the other one's
            files were in its way.
        TransientError: it was not, but the share took one for its holder that had been: the next try has its turn.
    """
    held = False
    try:
        tools.ledger.check_claim(claim)
        held = True
        record = tools.ledger.dataset(claim.pid)
        if record is not None and record.archived_at is None:
            tools.ledger.record_stage(claim, Stage.FAILED, message=str(error))
    except ClaimLostError as lost:
        _take_back_word(tools, claim.pid)
        raise lost from error
    except TransientError as untold:
        log.warning("failure_not_noted", pid=claim.pid, reason=str(untold))
    if held and isinstance(error, ClaimLostError):
        raise TransientError(
            f"A run of {claim.pid} that this one had replaced was in its way on the long-term storage; the run is "
            "tried again."
        ) from error


def _take_back_word(tools: Tools, pid: str) -> None:
    """That work has begun, which a replaced run may have told the catalogue after the other one's last word."""
    try:
        record = tools.ledger.dataset(pid)
        if record is not None and record.stage in (Stage.REGISTERED, Stage.EMPTIED):
            tools.catalogue.update_lifecycle(pid, lifecycle_of_archived(tools.storage_location))
    except TransientError as untold:
        log.warning("lifecycle_not_set_right", pid=pid, reason=str(untold))


def _release(ledger: Ledger, claim: Claim) -> None:
    """End the claim. Where that cannot be told it ends by itself, and the outcome of the run stays what it is."""
    try:
        ledger.release_claim(claim)
    except TransientError as untold:
        log.warning("claim_not_released", pid=claim.pid, reason=str(untold))


def lifecycle_of_archived(storage_location: str) -> dict[str, Any]:
    """What the catalogue must say of a data set that is archived."""
    return {
        "archivable": False,
        "retrievable": True,
        "archiveStatusMessage": "datasetOnArchiveDisk",
        "archiveReturnMessage": None,
        "storageLocation": storage_location,
    }


@dataclass
class _Run:
    """One attempt at one data set, holding its claim."""

    tools: Tools
    monitor: Monitor
    claim: Claim
    heart: Heartbeat
    child: ChildProcess
    scratch: Path
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    proven: set[str] = field(default_factory=set)
    """Datablocks (archiveId) that this run has read back."""

    @property
    def pid(self) -> str:
        return self.claim.pid

    @property
    def _bucket(self) -> str:
        return self.tools.store_settings.s3_landingzone_bucket

    @property
    def _copies(self) -> SecondCopies:
        tools = self.tools
        return SecondCopies(
            tools.ledger,
            tools.share,
            tools.lts,
            self.monitor,
            self.pid,
            self.attempt,
            self._claim_holds,
            lambda _: self.heart.check(),
        )

    def run(self) -> ArchiveOutcome:
        bag = self.child.call(inspect_bag, None, self.tools.share, self.pid)
        refuse_withdrawn(bag.event)
        record = self.tools.ledger.dataset(self.pid)
        if record is not None and record.stage in WITHDRAWN:
            raise LedgerDisagreesError(
                f"The ledger says that {self.pid} was withdrawn, and nothing on the share says so. Nothing was "
                "changed. Look at its retirement on the share, and in its copies, before anything else is done with it."
            )
        if bag.published:
            return self._settle_archived(bag)
        if record is not None and record.archived_at is not None:
            raise LedgerDisagreesError(
                f"The ledger says that {self.pid} was archived at {record.archived_at:%Y-%m-%d %H:%M} UTC, but its "
                "bag is not on the share. Nothing was changed. Look for the bag (is this the right share? was it "
                "moved?) before anything else is done with this data set."
            )
        self._claim_holds()
        self.tools.catalogue.update_lifecycle(
            self.pid,
            {
                "archivable": False,
                "retrievable": False,
                "archiveStatusMessage": "started",
                "archiveReturnMessage": None,
                "storageLocation": self.tools.storage_location,
            },
        )
        plan = self._plan(bag)
        datablocks = self._write(plan, bag)
        self._publish(plan, datablocks)
        self._register(datablocks)
        left = self._empty(plan, datablocks)
        return ArchiveOutcome(self.pid, plan.files, plan.payload, tuple(datablocks), plan.extra, left)

    def _claim_holds(self) -> None:
        """Before anything that could be in the way of a run that replaced this one."""
        self.heart.check()
        self.tools.ledger.check_claim(self.claim)

    def _still_ours(self) -> None:
        """Before anything that cannot be taken back: the claim, and the share that is mounted."""
        self._claim_holds()
        self.child.call(free_space, None, self.tools.share)  # opens the share, which checks its identity

    # ------------------------------------------------------------------------------------------ planned

    def _plan(self, bag: BagState) -> _Plan:
        self.monitor.note("comparing the landing zone with the catalogue's list")
        tools = self.tools
        plan = _Plan(self.scratch / "plan.jsonl")
        with Inventory(self.scratch / "inventory.sqlite") as inventory:
            inventory.add_landed(self.pid, tools.store.list(self._bucket, dataset_prefix(self.pid)))
            inventory.add_listed(tools.catalogue.each_orig_file(self.pid))
            # Before anything on the share is given up: what an earlier run wrote may be all that is left of a file.
            plan.extra = inventory.compare().extra
            plan.goes_on = bag.has_plan and self._stored_plan_holds(plan, inventory)
            if plan.goes_on:
                plan.survey()
                self._claim_holds()
                self.child.call(take_turn, None, tools.share, self.pid, self.attempt, from_scratch=False)
                self.monitor.note(f"going on with the plan of an earlier run: {len(plan.datablocks)} datablocks")
            else:
                self._claim_holds()
                self.child.call(take_turn, None, tools.share, self.pid, self.attempt, from_scratch=True)
                settings = PlanSettings(tools.settings.target_bytes, tools.settings.archiver_datablock_files)
                with plan.file.open("w", encoding="ascii") as lines:
                    lines.writelines(
                        plan_lines(self.pid, settings, deal_out(inventory.entries(int(time.time())), settings))
                    )
                plan.survey()
                self._claim_holds()
                self.child.call(store_plan, None, tools.share, self.pid, plan.file, self.attempt)
        tools.ledger.record_stage(self.claim, Stage.PLANNED, files=plan.files, payload_bytes=plan.payload)
        return plan

    def _stored_plan_holds(self, plan: _Plan, inventory: Inventory) -> bool:
        """Whether an earlier run's plan is still true of the landing zone and of what the catalogue lists."""
        if not self.child.call(fetch_plan, None, self.tools.share, self.pid, plan.file):
            return False
        try:
            return inventory.matches(plan.entries())
        except ValueError as error:
            log.warning("stored_plan_unusable", pid=self.pid, error=str(error))
            return False

    # ------------------------------------------------------------------------------------------ written, verified

    def _write(self, plan: _Plan, bag: BagState) -> list[DatablockTotals]:
        found = {totals.index: totals for totals in bag.datablocks if plan.goes_on}
        self.monitor.expect(2 * plan.payload, "written and read back")
        done: list[DatablockTotals] = []
        for planned in plan.datablocks:
            name = f"datablock {planned.index + 1} of {len(plan.datablocks)}"
            totals = self._adopt(found[planned.index], name, planned) if planned.index in found else None
            done.append(totals or self._write_and_prove(plan, planned, name))
            self.monitor.datablocks(done)
        self.tools.ledger.record_stage(self.claim, Stage.VERIFIED)
        return done

    def _adopt(self, totals: DatablockTotals, name: str, planned: _PlannedDatablock) -> DatablockTotals | None:
        """A datablock an earlier run finished, when it reads back with its SHA-256; None when it does not."""
        try:
            proof = self._prove(totals, CHECKSUM_ALGORITHM, f"verify {name} of an earlier run")
        except VerificationError as error:
            log.warning("not_adopted", pid=self.pid, datablock=totals.archive_id, error=str(error))
            return None
        self.monitor.advance(planned.payload)
        self._record(totals, proof)
        return totals

    def _write_and_prove(self, plan: _Plan, planned: _PlannedDatablock, name: str) -> DatablockTotals:
        for attempt in stamina.retry_context(on=VerificationError, attempts=_WRITE_ATTEMPTS, timeout=None):
            with attempt:
                totals = self._write_when_there_is_space(plan, planned, name)
                self._record(totals, "")
                self._record(totals, self._prove(totals, "xxh3_128", f"read back {name}"))
        return totals

    def _prove(self, totals: DatablockTotals, algorithm: str, name: str) -> str:
        """Read a datablock back: what level that proves."""
        digest = totals.sha256 if algorithm == CHECKSUM_ALGORITHM else totals.xxh3_128
        patience = self.tools.lts.archiver_lts_file_timeout_s
        order = ProveOrder(self.tools.share, totals.archive_id, totals.packed_size, algorithm, digest, patience)
        proof = self.monitor.step(name, lambda: self.child.call(prove_datablock, self._advance, order), Limit.READ_LTS)
        self.proven.add(totals.archive_id)
        return proof

    def _advance(self, count: int) -> None:
        self.heart.check()
        self.monitor.advance(count)

    def _pack(self, plan: _Plan, planned: _PlannedDatablock) -> DatablockTotals:
        self._claim_holds()
        tools = self.tools
        order = PackOrder(
            store=tools.store_settings,
            bucket=self._bucket,
            prefix=dataset_prefix(self.pid),
            share=tools.share,
            plan_file=plan.file,
            plan_offset=planned.offset,
            entries=planned.entries,
            index=planned.index,
            archive_id=archive_id(self.pid, planned.index),
            index_path=index_path(self.pid, planned.index),
            attempt=self.attempt,
            turn_path=turn_path(self.pid),
            workers=tools.settings.archiver_num_workers,
            window_bytes=tools.settings.archiver_window_mib * MEBIBYTE,
        )
        return self.child.call(pack_datablock, self._advance, order)

    def _record(self, totals: DatablockTotals, proof: str) -> None:
        self.tools.ledger.record_datablock(self.claim, _datablock_record(self.pid, totals, proof))

    def _write_when_there_is_space(self, plan: _Plan, planned: _PlannedDatablock, name: str) -> DatablockTotals:
        """Write a datablock, waiting for as long as the share has no room for it.

        It is looked at before and after the wait for a place among those that write: others have written meanwhile.
        The place is given back while there is no room, for a smaller datablock may fit.

        Raises:
            NoSpaceError: there was none for the whole deadline.
        """
        lacking_since: float | None = None

        def can_wait(error: Exception) -> bool:
            nonlocal lacking_since
            if not isinstance(error, NoSpaceError):
                return False
            self.monitor.note(f"waiting for space: {error}")
            now = time.monotonic()
            lacking_since = now if lacking_since is None else lacking_since
            return now - lacking_since < self.tools.lts.lts_free_space_timeout_s

        def write() -> DatablockTotals:
            self._check_space(planned)
            return self._pack(plan, planned)

        for attempt in stamina.retry_context(on=can_wait, attempts=None, timeout=None, wait_initial=5, wait_max=60):
            with attempt:
                self._check_space(planned)
                totals = self.monitor.step(f"write {name}", write, Limit.WRITE_LTS)
        return totals

    def _check_space(self, planned: _PlannedDatablock) -> None:
        lts = self.tools.lts
        # Headers, padding and the index come on top of the payload.
        needed = planned.payload + planned.entries * 2048 + 1024**2
        free, total = self.child.call(free_space, None, self.tools.share)
        self.tools.ledger.record_share_space(self.tools.share.identity, free, total)
        floor = int(total * lts.lts_free_space_percentage / 100)
        if free - needed < floor:
            raise NoSpaceError(
                f"The long-term storage has {free} bytes free; {needed} are to be written and {floor} must stay free "
                f"(LTS_FREE_SPACE_PERCENTAGE={lts.lts_free_space_percentage:g}). Make space, then archive again."
            )

    # ------------------------------------------------------------------------------------------ published

    def _publish(self, plan: _Plan, datablocks: Sequence[DatablockTotals]) -> None:
        self.monitor.note("publishing the bag")
        dataset = self.tools.catalogue.dataset(self.pid)
        info = (
            ("External-Identifier", self.pid),
            ("External-Description", dataset.name),
            ("Source-Organization", dataset.owner_group),
            ("Bagging-Date", datetime.now(UTC).strftime("%Y-%m-%d")),
            ("Bag-Software-Agent", "archiver (research-data archive service)"),
            ("Files", str(plan.files)),
            ("Files-Without-Origin-Checksum", str(sum(totals.unproven for totals in datablocks))),
            (
                "Internal-Sender-Description",
                "Each data/datablocks/*.tar holds files of the data set, with their paths, times and modes; "
                "archiver/<tar>.jsonl lists its members with SHA-256 and offset; archiver/catalogue.json is the "
                "catalogue record.",
            ),
        )
        contents = BagContents(self.pid, tuple(datablocks), info, dataset.document)
        self.child.call(prepare_bag, None, self.tools.share, contents, self.attempt)
        self._copies.make()
        self._still_ours()
        self.child.call(commit_bag, None, self.tools.share, self.pid, self.attempt)
        self._copies.seal()
        self.tools.ledger.record_stage(self.claim, Stage.PUBLISHED)

    # ------------------------------------------------------------------------------------------ registered

    def _register(self, datablocks: Sequence[DatablockTotals]) -> None:
        self.monitor.note("registering the datablocks in the catalogue")
        self._still_ours()
        catalogue = self.tools.catalogue
        for totals in datablocks:
            members = self.child.call(read_members, None, self.tools.share, self.pid, totals.index)
            catalogue.register_datablock(self.pid, catalogue_datablock(totals, members))
        catalogue.update_lifecycle(self.pid, lifecycle_of_archived(self.tools.storage_location))
        self.tools.ledger.record_stage(self.claim, Stage.REGISTERED)

    # ------------------------------------------------------------------------------------------ landing emptied

    def _empty(self, plan: _Plan, datablocks: Sequence[DatablockTotals]) -> tuple[str, ...]:
        self.monitor.note("emptying the landing zone")
        prefix = dataset_prefix(self.pid)
        planned = (
            StoredObject(prefix + entry.path, entry.size, entry.etag) for entry in plan.entries() if not entry.is_folder
        )
        return self._delete_landed(planned, datablocks)

    def _delete_landed(self, objects: Iterator[StoredObject], datablocks: Sequence[DatablockTotals]) -> tuple[str, ...]:
        """Delete objects that are proven to be in the bag; the keys that lie there afterwards."""
        self._still_ours()
        self._bag_stands(datablocks)
        store, ledger = self.tools.store, self.tools.ledger
        store.delete(self._bucket, objects)
        left = list(store.list(self._bucket, dataset_prefix(self.pid)))
        ledger.record_stage(self.claim, Stage.EMPTIED)
        if left:
            ledger.record_landed(self.pid, sum(each.size for each in left))
            log.warning("left_in_landing_zone", pid=self.pid, objects=len(left))
        else:
            ledger.landing_emptied(self.pid)
        return tuple(each.key for each in left)

    def _bag_stands(self, datablocks: Sequence[DatablockTotals]) -> None:
        """A last look before the other copy goes: the bag is published and records what was proven, each tar there.

        Raises:
            LedgerDisagreesError: it is not as it was.
        """
        recorded = self.child.call(recorded_datablocks, None, self.tools.share, self.pid)
        there = {(each.archive_id, each.packed_size, each.sha256) for each in recorded}
        if there != {(each.archive_id, each.packed_size, each.sha256) for each in datablocks}:
            raise LedgerDisagreesError(
                f"The bag of {self.pid} was published and is not there as it was; the landing zone is kept. "
                "Look at the share before anything else is done with this data set."
            )

    # ------------------------------------------------------------------------------------------ archived before

    def _settle_archived(self, bag: BagState) -> ArchiveOutcome:
        """The bag is published: finish what an earlier run left undone, and keep anything that is not in the bag."""
        self.monitor.note("the data set is archived; finishing what is left to do")
        self._bag_stands(bag.datablocks)
        self._adopt_bag(bag)
        files = sum(totals.files for totals in bag.datablocks)
        payload = sum(totals.size for totals in bag.datablocks)
        self.child.call(commit_bag, None, self.tools.share, self.pid, self.attempt)
        self._copies.seal()
        self._register(bag.datablocks)
        landed = self._in_bag_too(bag)
        for totals in bag.datablocks:
            # Whatever was proven before: a copy goes only after the other one was read now.
            if totals.archive_id in landed and totals.archive_id not in self.proven:
                proof = self._prove(totals, CHECKSUM_ALGORITHM, f"verify datablock {totals.index + 1}")
                self._record(totals, proof)
        left = self._delete_landed((each for found in landed.values() for each in found), bag.datablocks)
        return ArchiveOutcome(
            self.pid,
            files,
            payload,
            bag.datablocks,
            left_in_landing=left,
            was_archived=True,
            was_read_back=self.proven >= {totals.archive_id for totals in bag.datablocks},
        )

    def _adopt_bag(self, bag: BagState) -> None:
        """Make the ledger know the bag; what no run of ours recorded as verified is read back first."""
        known = {each.archive_id: each for each in self.tools.ledger.datablocks(self.pid)}
        record = self.tools.ledger.dataset(self.pid)
        is_known = record is not None and record.stage in ARCHIVED
        adopted = []
        for totals in bag.datablocks:
            before = known.get(totals.archive_id)
            if before is not None and before.sha256 == totals.sha256 and before.verified_at is not None:
                adopted.append(before)
                continue
            proof = self._prove(totals, CHECKSUM_ALGORITHM, f"verify datablock {totals.index + 1}")
            adopted.append(_datablock_record(self.pid, totals, proof))
            if is_known:
                self._record(totals, proof)
        if not is_known:
            files = sum(totals.files for totals in bag.datablocks)
            payload = sum(totals.size for totals in bag.datablocks)
            self.tools.ledger.adopt_dataset(self.claim, Stage.PUBLISHED, adopted, files, payload)

    def _in_bag_too(self, bag: BagState) -> dict[str, list[StoredObject]]:
        """The objects in the landing zone, by the datablock whose index lists them with the same content.

        Raises:
            OtherContentError: one is not; nothing is deleted.
        """
        prefix = dataset_prefix(self.pid)
        with Inventory(self.scratch / "landed.sqlite") as inventory:
            inventory.add_landed(self.pid, self.tools.store.list(self._bucket, prefix))
            same: dict[str, list[StoredObject]] = {}
            other: list[str] = []
            for totals in bag.datablocks:
                if inventory.is_empty():
                    break
                for member in self.child.call(read_members, None, self.tools.share, self.pid, totals.index):
                    landed = inventory.take(member.path)
                    if landed is None:
                        continue
                    found = StoredObject(prefix + member.path, *landed)
                    if self._same_content(found, member):
                        same.setdefault(totals.archive_id, []).append(found)
                    else:
                        other.append(member.path)
            other += inventory.paths()
        if other:
            raise OtherContentError(
                f"{self.pid} is archived, and the landing zone holds something else under its name; it was kept. "
                "Upload it as a new data set, or abort this upload. Files:",
                sorted(other),
            )
        return same

    def _same_content(self, found: StoredObject, member: Member) -> bool:
        if found.size != member.size:
            return False
        if found.etag == member.etag:
            return True
        return object_sha256(self.tools.store, self._bucket, found) == member.sha256


def _datablock_record(pid: str, totals: DatablockTotals, proof: str) -> DatablockRecord:
    return DatablockRecord(
        archive_id=totals.archive_id,
        pid=pid,
        index=totals.index,
        size=totals.size,
        packed_size=totals.packed_size,
        files=totals.files,
        sha256=totals.sha256,
        proof=proof,
        verified_at=datetime.now(UTC) if proof else None,
    )


def catalogue_datablock(totals: DatablockTotals, members: Sequence[Member]) -> Datablock:
    """A datablock as the catalogue shows it: its files, with SHA-256, times and modes of the instrument."""
    return Datablock(
        archive_id=totals.archive_id,
        size=totals.size,
        packed_size=totals.packed_size,
        chk_alg=CHECKSUM_ALGORITHM,
        version=DATABLOCK_VERSION,
        files=tuple(
            DatablockFile(
                path=member.path,
                size=member.size,
                time=datetime.fromtimestamp(member.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                chk=member.sha256,
                perm=mode_text(member.mode),
            )
            for member in members
            if not member.is_folder
        ),
    )
