"""Retrieve a data set: its datablocks, or a tar of single files, into the retrieval bucket, and links to them.

What is still there is not copied again, and two requests at once share one copy: the ledger holds a claim for each
tar. A copy appears in the bucket only when it is what was archived.
"""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import stamina
import structlog

from archiver.config.settings import MEBIBYTE
from archiver.workflow.bags import RecordedDatablock, recorded_datablocks
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Datablock
from archiver.workflow.claims import Heartbeat
from archiver.workflow.datablocks.selection import Selection, canonical, selection_digest
from archiver.workflow.download_script import Download
from archiver.workflow.errors import (
    ArchiverError,
    ClaimLostError,
    DamagedError,
    DatasetBusyError,
    NoSpaceError,
    NotRetrievableError,
    PermanentError,
    RetiredError,
    TransientError,
    UnknownDatasetError,
    UnknownFilesError,
)
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.holdings.recalling import Recall, ask_for
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import FixityOutcome, RetrievalClaim, RetrievalRecord, RetrievalState
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.names import bag_folder, check_archive_id, check_pid, is_older_layout, selection_key
from archiver.workflow.older_tars import (
    FindOlderOrder,
    OlderCopyOrder,
    OlderTar,
    copy_older_datablock,
    find_older_files,
    measure_tars,
)
from archiver.workflow.selected_files import FilesCopyOrder, FindOrder, FoundFiles, copy_files, find_files
from archiver.workflow.tombstones import find_event, refuse_withdrawn
from archiver.workflow.tools import Tools
from archiver.workflow.transfer import CopyOrder, copy_datablock

log = structlog.get_logger(__name__)

_OLDER_ALGORITHM = "md5"
"""Of the checksums of files that the older service registered without saying."""


@dataclass(frozen=True, slots=True)
class RetrievedTar:
    """A datablock that lies in the retrieval bucket, or a tar there of the files that were asked for."""

    archive_id: str
    """Its key: for a datablock its archiveId."""
    size: int
    """Payload, bytes."""
    packed_size: int
    sha256: str
    shared: bool
    """It was there already, or another run brought it."""

    @property
    def name(self) -> str:
        """File name of the tar."""
        return posixpath.basename(self.archive_id)


@dataclass(frozen=True, slots=True)
class RetrievalOutcome:
    """What retrieving a data set came to."""

    pid: str
    tars: tuple[RetrievedTar, ...]
    expires_at: datetime
    files: int | None = None
    """How many files were asked for by name; None where all were."""

    @property
    def message(self) -> str:
        """The outcome in words."""
        size = sum(tar.packed_size for tar in self.tars)
        shared = sum(tar.shared for tar in self.tars)
        what = f"{len(self.tars)} datablocks" if self.files is None else f"{self.files} files that were asked for"
        there = f" ({shared} were there already)" if shared and self.files is None else ""
        there = " (they were there already)" if shared and self.files is not None else there
        return (
            f"retrieved: {what}{there}, {size} bytes, SHA-256 checked; "
            f"links work until {self.expires_at:%Y-%m-%d %H:%M} UTC"
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A tar that is to lie in the retrieval bucket."""

    pid: str
    key: str
    size: int
    packed_size: int
    sha256: str
    """Empty where it is known only when the copy was made."""
    name: str
    """For people."""
    tars: tuple[str, ...]
    """Where on the share its bytes are."""
    copy: Callable[[], str]
    """Brings it into the bucket; its SHA-256."""


class _OnTapeError(PermanentError):
    """What is wanted is not on the disk yet."""


class Retrieval:
    """The use case, for one data set at a time."""

    def __init__(self, tools: Tools, monitor: Monitor) -> None:
        self._tools = tools
        self._monitor = monitor

    def retrieve(self, pid: str, holder: str, files: Sequence[str] = ()) -> RetrievalOutcome:
        """Bring all datablocks of `pid` into the retrieval bucket, or one tar of just these `files` (or folders).

        Raises:
            RetiredError: it was withdrawn.
            NotRetrievableError: the catalogue knows no datablocks of it.
            UnknownFilesError: the data set has no such files.
            DamagedError: a datablock is missing or altered. Nothing is changed by itself.
            NoSpaceError: the retrieval bucket was full for too long.
            ArchiverError: anything else; what was brought so far stays.
        """
        check_pid(pid)
        tools = self._tools
        _refuse_retired(tools.ledger, pid)
        registered = tools.catalogue.datablocks(pid, with_files=False)
        if not registered:
            raise NotRetrievableError(
                f"The catalogue has no datablocks of {pid}: it was never archived, or not finished. Archive it first."
            )
        registered.sort(key=lambda block: block.archive_id)
        tools.catalogue.update_lifecycle(pid, {"retrieveStatusMessage": "started", "retrieveReturnMessage": None})
        expires_at = datetime.now(UTC) + tools.store_settings.retrieval_lifetime
        found: FoundFiles | None = None
        with ExitStack() as stack:
            child = stack.enter_context(ChildProcess(tools.lts.lts_stall_timeout_s))
            refuse_withdrawn(child.call(find_event, None, tools.share, pid))
            recorded = child.call(recorded_datablocks, None, tools.share, pid)
            if files:
                found_list = stack.enter_context(self._scratch()) / "found.jsonl"
                found = self._find(child, pid, canonical(files), registered, recorded, found_list)
                wanted = [self._selected(child, pid, files, found, found_list)]
            else:
                wanted = self._datablocks(child, pid, registered, recorded)
            self._monitor.expect(sum(each.packed_size for each in wanted), "copied and checked")
            done = self._bring_all(child, wanted, holder, expires_at)
        try:
            _refuse_retired(tools.ledger, pid)  # again: it may have been withdrawn meanwhile
        except RetiredError:
            tools.ledger.expire_copies(bag_folder(pid))
            raise
        tools.catalogue.update_lifecycle(
            pid, {"retrieveStatusMessage": "datasetRetrieved", "retrieveReturnMessage": None}
        )
        return RetrievalOutcome(pid, tuple(done), expires_at, None if found is None else found.files)

    def downloads(self, outcome: RetrievalOutcome) -> list[Download]:
        """Links to the tars of an outcome."""
        settings = self._tools.store_settings
        return [
            Download(
                outcome.pid,
                tar.name,
                tar.packed_size,
                tar.sha256,
                self._tools.store.presign_get(
                    settings.s3_retrieval_bucket, tar.archive_id, settings.retrieval_lifetime, tar.name
                ),
            )
            for tar in outcome.tars
        ]

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        root = self._tools.settings.archiver_scratch_folder
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="retrieve-", dir=root) as folder:
            yield Path(folder)

    # ------------------------------------------------------------------------------------------ whole datablocks

    def _datablocks(
        self, child: ChildProcess, pid: str, registered: Sequence[Datablock], recorded: Sequence[RecordedDatablock]
    ) -> list[_Wanted]:
        """The datablocks: as the bag records them, or as their files show for tars of the older service.

        Raises:
            PermanentError: the catalogue knows only some datablocks of the bag. A part is never given out as the whole.
        """
        by_id = {each.archive_id: each for each in recorded}
        if missing := by_id.keys() - {block.archive_id for block in registered}:
            raise PermanentError(
                f"The catalogue lacks {len(missing)} of the {len(by_id)} datablocks of {pid} that lie in the archive. "
                f"Nothing was brought back: operators, register them again: archiver catalogue repair {pid} --apply"
            )
        older = [block for block in registered if block.archive_id not in by_id]
        _check_older(pid, older)
        sizes = child.call(measure_tars, None, self._tools.share, [block.archive_id for block in older])
        return [
            self._older_datablock(child, pid, block, sizes[block.archive_id])
            if block.archive_id in sizes
            else self._recorded_datablock(child, pid, block, by_id[block.archive_id])
            for block in registered
        ]

    def _recorded_datablock(
        self, child: ChildProcess, pid: str, block: Datablock, recorded: RecordedDatablock
    ) -> _Wanted:
        tools = self._tools
        order = CopyOrder(
            store=tools.store_settings,
            bucket=tools.store_settings.s3_retrieval_bucket,
            share=tools.share,
            archive_id=recorded.archive_id,
            packed_size=recorded.packed_size,
            sha256=recorded.sha256,
            workers=tools.settings.archiver_num_workers,
            window_bytes=tools.settings.archiver_window_mib * MEBIBYTE,
            patience_s=tools.lts.archiver_lts_file_timeout_s,
        )

        def copy() -> str:
            try:
                child.call(copy_datablock, self._monitor.advance, order)
            except DamagedError as error:
                self._note_damage(child, pid, recorded.archive_id, error)
                raise
            return recorded.sha256

        name = posixpath.basename(block.archive_id)
        return _Wanted(
            pid, block.archive_id, block.size, recorded.packed_size, recorded.sha256, name, (recorded.archive_id,), copy
        )

    def _note_damage(self, child: ChildProcess, pid: str, archive_id: str, found: DamagedError) -> None:
        """What a retrieval finds on the first share is damage as an audit's is: counted, and listed until it is mended.

        A further share may never have had a copy of it: of those the next audit tells.
        """
        share, ledger = self._tools.share, self._tools.ledger
        try:
            if ledger.remembered(LTS_IDENTITY) not in (None, str(share.identity)):
                return
            outcome, proof = FixityOutcome.DAMAGED, PROOF_READ
            try:
                child.call(measure_tars, None, share, [archive_id])
            except DamagedError:
                outcome, proof = FixityOutcome.MISSING, ""
            ledger.record_fixity(archive_id, outcome, proof, str(found))
        except ArchiverError as error:  # what was found is what the job must end with
            log.warning("damage_not_noted", pid=pid, archive_id=archive_id, reason=str(error))
        else:
            log.error("damage_found", pid=pid, archive_id=archive_id, detail=str(found))

    def _older_datablock(self, child: ChildProcess, pid: str, block: Datablock, packed_size: int) -> _Wanted:
        tools = self._tools

        def copy() -> str:
            order = OlderCopyOrder(
                store=tools.store_settings,
                bucket=tools.store_settings.s3_retrieval_bucket,
                share=tools.share,
                tar=self._older_tar(pid, block),
                packed_size=packed_size,
                workers=tools.settings.archiver_num_workers,
                window_bytes=tools.settings.archiver_window_mib * MEBIBYTE,
                patience_s=tools.lts.archiver_lts_file_timeout_s,
            )
            return child.call(copy_older_datablock, self._monitor.advance, order)

        name = posixpath.basename(block.archive_id)
        return _Wanted(pid, block.archive_id, block.size, packed_size, "", name, (block.archive_id,), copy)

    def _older_tar(self, pid: str, block: Datablock, selection: Selection | None = None) -> OlderTar:
        """What the catalogue knows of the files in a tar, or of those that are selected."""
        listed = self._tools.catalogue.datablock(pid, block.id)
        return OlderTar(
            block.archive_id,
            listed.chk_alg or _OLDER_ALGORITHM,
            {
                file.path: (file.size, file.chk or "")
                for file in listed.files
                if selection is None or selection.takes(file.path)
            },
        )

    # ------------------------------------------------------------------------------------------ single files

    def _find(
        self,
        child: ChildProcess,
        pid: str,
        names: tuple[str, ...],
        registered: Sequence[Datablock],
        recorded: Sequence[RecordedDatablock],
        found_list: Path,
    ) -> FoundFiles:
        """Where the files lie: by the index of the bag, or by the headers of a tar of the older service.

        Raises:
            UnknownFilesError: some are in none.
        """
        share, patience = self._tools.share, self._tools.lts.archiver_lts_file_timeout_s
        self._monitor.note(f"looking for {len(names)} files or folders that were asked for")
        if recorded:
            found = child.call(find_files, None, FindOrder(share, pid, names, found_list))
            _refuse_unknown(pid, found.not_found)
            return found
        _check_older(pid, registered)
        selection = Selection(names)
        tars = tuple(self._older_tar(pid, block, selection) for block in registered)
        _refuse_unknown(pid, selection.not_found())
        order = FindOlderOrder(share, tuple(tar for tar in tars if tar.members), found_list, patience)
        # A tar that is only a stub is recalled by this.
        return self._monitor.step(
            "find the files in their tars", lambda: child.call(find_older_files, None, order), Limit.READ_LTS
        )

    def _selected(
        self, child: ChildProcess, pid: str, names: Sequence[str], found: FoundFiles, found_list: Path
    ) -> _Wanted:
        tools = self._tools
        order = FilesCopyOrder(
            store=tools.store_settings,
            bucket=tools.store_settings.s3_retrieval_bucket,
            key=selection_key(pid, selection_digest(names)),
            share=tools.share,
            tars=found.tars,
            found_list=found_list,
            packed_size=found.packed_size,
            workers=tools.settings.archiver_num_workers,
            window_bytes=tools.settings.archiver_window_mib * MEBIBYTE,
            patience_s=tools.lts.archiver_lts_file_timeout_s,
        )

        def copy() -> str:
            return child.call(copy_files, self._monitor.advance, order)

        return _Wanted(pid, order.key, found.size, found.packed_size, "", f"{found.files} files", found.tars, copy)

    # ------------------------------------------------------------------------------------------ into the bucket

    def _bring_all(
        self, child: ChildProcess, wanted: Sequence[_Wanted], holder: str, expires_at: datetime
    ) -> list[RetrievedTar]:
        """All of them, by us or by whoever is at it.

        Raises:
            PermanentError: together they are more than the bucket may ever hold.
        """
        capacity = self._tools.store_settings.retrieval_capacity_bytes
        total = sum(each.packed_size for each in wanted)
        if total > capacity:
            raise PermanentError(
                f"{total} bytes are to be retrieved, and retrieved data may take {capacity} in all "
                "(S3_TOTAL_RETRIEVAL_SPACE_TB). Ask for fewer files by naming them in the job, or have the operators "
                "raise it."
            )
        missing = [0 if self._there(each) else each.packed_size for each in wanted]
        # Each reserves for those after it, too: two that are half done must not wait for each other.
        done = []
        for place, each in enumerate(wanted):
            if missing[place]:
                later = zip(wanted[place:], missing[place:], strict=True)
                self._recall(child, each, [tar for other, lacks in later if lacks for tar in other.tars])
            done.append(self._bring(each, sum(missing[place:]), holder, expires_at))
        return done

    def _recall(self, child: ChildProcess, wanted: _Wanted, coming: Sequence[str]) -> None:
        """Wait until the tars of `wanted` are on the disk; the next of `coming` are asked for meanwhile.

        Nobody's place among those that read is taken for it, and no call to the share stands still.

        Raises:
            PermanentError: they did not come from tape in time.
        """
        lts = self._tools.lts
        asked_for = [Recall(self._tools.share, tar) for tar in coming]
        for attempt in stamina.retry_context(
            on=_OnTapeError, attempts=None, timeout=3600 * lts.lts_recall_hours, wait_initial=1, wait_max=60
        ):
            with attempt:
                if attempt.num > 1:
                    self._monitor.advance(0)  # where a run that is cancelled ends
                here = set(child.call(ask_for, None, asked_for[: lts.lts_recall_batch]))
                asked_for = [each for each in asked_for if each not in here]
                on_tape = {each.archive_id for each in asked_for} & set(wanted.tars)
                if on_tape:
                    if attempt.num == 1:
                        self._monitor.note(f"waiting for {wanted.name} to come from tape")
                    raise _OnTapeError(
                        f"{len(on_tape)} tars of {wanted.pid} did not come from tape in {lts.lts_recall_hours:g} h "
                        "(LTS_RECALL_HOURS). Look at the tape system, then retrieve again."
                    )

    def _bring(self, wanted: _Wanted, reserve: int, holder: str, expires_at: datetime) -> RetrievedTar:
        """One of them, waiting for space."""
        timeout = self._tools.store_settings.retrieval_space_timeout_s
        for attempt in stamina.retry_context(
            on=NoSpaceError, attempts=None, timeout=timeout, wait_initial=5, wait_max=60
        ):
            with attempt:
                try:
                    tar = self._share_or_copy(wanted, reserve, holder, expires_at)
                except NoSpaceError as error:
                    self._monitor.note(f"waiting for space: {error}")
                    raise
        return tar

    def _share_or_copy(self, wanted: _Wanted, reserve: int, holder: str, expires_at: datetime) -> RetrievedTar:
        ledger = self._tools.ledger
        for attempt in stamina.retry_context(
            on=DatasetBusyError,
            attempts=None,
            timeout=self._tools.settings.claim_wait_s,
            wait_initial=1,
            wait_max=10,
        ):
            with attempt:
                record = self._there(wanted)
                shared = record is not None and ledger.extend_retrieval(wanted.key, expires_at)
                if record is not None and shared:
                    self._monitor.advance(wanted.packed_size)
                    sha256 = record.sha256 or ""
                    continue
                if attempt.num > 1:
                    self._monitor.note(f"another run is bringing {wanted.name}; waiting for it")
                sha256 = self._copy(wanted, reserve, holder, expires_at)
        return RetrievedTar(wanted.key, wanted.size, wanted.packed_size, sha256, shared)

    def _there(self, wanted: _Wanted) -> RetrievalRecord | None:
        """What is noted of a copy that lies in the bucket and is what is wanted; None where none does."""
        record = self._tools.ledger.retrieval(wanted.key)
        if (
            record is None
            or record.state is not RetrievalState.READY
            or record.size != wanted.packed_size
            or (wanted.sha256 and record.sha256 != wanted.sha256)
        ):
            return None
        head = self._tools.store.head(self._tools.store_settings.s3_retrieval_bucket, wanted.key)
        return record if head is not None and head.size == wanted.packed_size else None

    def _copy(self, wanted: _Wanted, reserve: int, holder: str, expires_at: datetime) -> str:
        """Make the copy, holding the claim on it; its SHA-256."""
        tools = self._tools
        ledger, timeout = tools.ledger, tools.settings.claim_timeout_s
        claim = ledger.claim_retrieval(
            wanted.key,
            holder,
            timedelta(seconds=timeout),
            reserve=max(reserve, wanted.packed_size),
            capacity=tools.store_settings.retrieval_capacity_bytes,
        )
        try:
            # What is withdrawn from now on lets this copy expire, too; what was before did not know of it.
            _refuse_retired(ledger, wanted.pid)
            with Heartbeat(lambda: ledger.heartbeat_retrieval(claim), timeout / 4):
                sha256 = self._monitor.step(f"retrieve {wanted.name}", wanted.copy, Limit.READ_LTS)
                ledger.record_retrieved(claim, wanted.packed_size, sha256, expires_at)
        except ArchiverError as error:
            _give_way_if_replaced(ledger, claim, error)
            raise
        finally:
            _release(ledger, claim)
        return sha256


def _refuse_retired(ledger: Ledger, pid: str) -> None:
    """Returns for a data set that is not withdrawn, as far as the ledger knows.

    Raises:
        RetiredError: it is.
    """
    retirement = ledger.retirement(pid)
    if retirement is not None and retirement.state.stage is not None:
        raise RetiredError(retirement.message)


def _check_older(pid: str, blocks: Sequence[Datablock]) -> None:
    """Datablocks that no bag records must be tars of the older service.

    Raises:
        DamagedError: one is not.
    """
    for block in blocks:
        check_archive_id(block.archive_id)
        if not is_older_layout(pid, block.archive_id):
            raise DamagedError(
                f"The catalogue lists {block.archive_id}, but no bag on the long-term storage records it. "
                "Nothing was changed."
            )


def _refuse_unknown(pid: str, names: Sequence[str]) -> None:
    if names:
        raise UnknownFilesError(
            f"{pid} has no such files, so nothing was retrieved. Submit a new job with their paths as the catalogue "
            "lists them, upper and lower case included. Unknown:",
            names,
        )


def _give_way_if_replaced(ledger: Ledger, claim: RetrievalClaim, error: ArchiverError) -> None:
    """What went wrong in a copy that another run took over is of no account; where it cannot be told, it is.

    Raises:
        DatasetBusyError: another run makes the copy now, which serves this one, too.
    """
    try:
        ledger.heartbeat_retrieval(claim)
    except ClaimLostError as lost:
        raise DatasetBusyError(str(lost)) from error
    except TransientError as untold:
        log.warning("claim_not_checked", archive_id=claim.archive_id, reason=str(untold))


def _release(ledger: Ledger, claim: RetrievalClaim) -> None:
    """End the claim. Where that cannot be told it ends by itself, and the outcome of the run stays what it is."""
    try:
        ledger.release_retrieval(claim)
    except TransientError as untold:
        log.warning("claim_not_released", archive_id=claim.archive_id, reason=str(untold))


def report_retrieval_failure(catalogue: Catalogue, pid: str, error: ArchiverError) -> None:
    """Tell the catalogue that retrieving `pid` failed for good, in the words of `error`.

    Raises:
        CatalogueError: it could not be told.
    """
    if isinstance(error, RetiredError):  # which is no fault of the system
        catalogue.update_lifecycle(pid, {"retrieveStatusMessage": "", "retrieveReturnMessage": str(error)})
    elif not isinstance(error, UnknownDatasetError):
        changes = {"retrieveStatusMessage": "scheduleRetrieveJobFailed", "retrieveReturnMessage": str(error)}
        catalogue.update_lifecycle(pid, changes)
