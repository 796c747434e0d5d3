"""Retrieve a data set: its datablocks from the long-term storage into the retrieval bucket, and links to them.

A datablock that is still there is not copied again, and two requests at once share one copy: the ledger holds a
claim for each datablock. A copy appears in the bucket only when its SHA-256 is the recorded one.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import stamina
import structlog

from archiver.config.settings import MEBIBYTE
from archiver.workflow.bags import RecordedDatablock, recorded_datablocks
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Datablock
from archiver.workflow.claims import Heartbeat
from archiver.workflow.download_script import Download
from archiver.workflow.errors import (
    ArchiverError,
    ClaimLostError,
    DamagedError,
    DatasetBusyError,
    NotRetrievableError,
    TransientError,
    UnknownDatasetError,
)
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import RetrievalClaim, RetrievalState
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.names import check_archive_id, check_pid, is_older_layout
from archiver.workflow.tools import Tools
from archiver.workflow.transfer import CopyOrder, SurveyOrder, copy_datablock, survey_datablock

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetrievedDatablock:
    """A datablock that lies in the retrieval bucket."""

    archive_id: str
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
    datablocks: tuple[RetrievedDatablock, ...]
    expires_at: datetime

    @property
    def message(self) -> str:
        """The outcome in words."""
        size = sum(datablock.packed_size for datablock in self.datablocks)
        shared = sum(datablock.shared for datablock in self.datablocks)
        there = f" ({shared} were there already)" if shared else ""
        return (
            f"retrieved: {len(self.datablocks)} datablocks{there}, {size} bytes, SHA-256 checked; "
            f"links work until {self.expires_at:%Y-%m-%d %H:%M} UTC"
        )


class Retrieval:
    """The use case, for one data set at a time."""

    def __init__(self, tools: Tools, monitor: Monitor) -> None:
        self._tools = tools
        self._monitor = monitor

    def retrieve(self, pid: str, holder: str) -> RetrievalOutcome:
        """Bring all datablocks of `pid` into the retrieval bucket.

        Raises:
            NotRetrievableError: the catalogue knows no datablocks of it.
            DamagedError: a datablock is missing or altered. Nothing is changed by itself.
            ArchiverError: anything else; what was brought so far stays.
        """
        check_pid(pid)
        tools = self._tools
        registered = tools.catalogue.datablocks(pid, with_files=False)
        if not registered:
            raise NotRetrievableError(
                f"The catalogue has no datablocks of {pid}: it was never archived, or not finished. Archive it first."
            )
        tools.catalogue.update_lifecycle(pid, {"retrieveStatusMessage": "started", "retrieveReturnMessage": None})
        expires_at = datetime.now(UTC) + tools.store_settings.retrieval_lifetime
        self._monitor.expect(sum(block.packed_size for block in registered))
        with ChildProcess(tools.lts.lts_stall_timeout_s) as child:
            recorded = child.call(recorded_datablocks, None, tools.share, pid)
            done = []
            for block in sorted(registered, key=lambda block: block.archive_id):
                expected = self._expected(child, pid, block, recorded)
                done.append(self._bring(child, expected, block.size, holder, expires_at))
        tools.catalogue.update_lifecycle(
            pid, {"retrieveStatusMessage": "datasetRetrieved", "retrieveReturnMessage": None}
        )
        return RetrievalOutcome(pid, tuple(done), expires_at)

    def downloads(self, outcome: RetrievalOutcome) -> list[Download]:
        """Links to the datablocks of an outcome."""
        settings = self._tools.store_settings
        return [
            Download(
                outcome.pid,
                datablock.name,
                datablock.packed_size,
                datablock.sha256,
                self._tools.store.presign_get(
                    settings.s3_retrieval_bucket, datablock.archive_id, settings.retrieval_lifetime, datablock.name
                ),
            )
            for datablock in outcome.datablocks
        ]

    def _expected(
        self, child: ChildProcess, pid: str, block: Datablock, recorded: Sequence[RecordedDatablock]
    ) -> RecordedDatablock:
        """What a datablock must be: as its bag records it, or as its members show for a tar of the older service."""
        check_archive_id(block.archive_id)
        for each in recorded:
            if each.archive_id == block.archive_id:
                return each
        if not is_older_layout(pid, block.archive_id):
            raise DamagedError(
                f"The catalogue lists {block.archive_id}, but no bag on the long-term storage records it. "
                "Nothing was changed."
            )
        return self._survey(child, pid, block)

    def _survey(self, child: ChildProcess, pid: str, block: Datablock) -> RecordedDatablock:
        """Check a tar without a bag against the checksums of its files in the catalogue."""
        record = self._tools.ledger.retrieval(block.archive_id)
        if record is not None and record.sha256 and record.size == block.packed_size:
            return RecordedDatablock(block.archive_id, block.packed_size, record.sha256)  # still there, or copied again
        listed = next(each for each in self._tools.catalogue.datablocks(pid) if each.archive_id == block.archive_id)
        order = SurveyOrder(
            share=self._tools.share,
            archive_id=block.archive_id,
            algorithm=listed.chk_alg or "md5",
            members={file.path: (file.size, file.chk or "") for file in listed.files},
            patience_s=self._tools.lts.archiver_lts_file_timeout_s,
        )
        size, sha256 = self._monitor.step(
            f"check the files of {posixpath.basename(block.archive_id)}",
            lambda: child.call(survey_datablock, None, order),
            Limit.READ_LTS,
        )
        return RecordedDatablock(block.archive_id, size, sha256)

    def _bring(
        self, child: ChildProcess, wanted: RecordedDatablock, size: int, holder: str, expires_at: datetime
    ) -> RetrievedDatablock:
        """One datablock into the bucket, by us or by whoever is at it."""
        settings = self._tools.settings
        for attempt in stamina.retry_context(
            on=DatasetBusyError, attempts=None, timeout=settings.claim_wait_s, wait_initial=1, wait_max=10
        ):
            with attempt:
                if self._is_there(wanted) and self._tools.ledger.extend_retrieval(wanted.archive_id, expires_at):
                    self._monitor.advance(wanted.packed_size)
                    return RetrievedDatablock(wanted.archive_id, size, wanted.packed_size, wanted.sha256, shared=True)
                if attempt.num > 1:
                    self._monitor.note(
                        f"another run is bringing {posixpath.basename(wanted.archive_id)}; waiting for it"
                    )
                self._copy(child, wanted, holder, expires_at)
        return RetrievedDatablock(wanted.archive_id, size, wanted.packed_size, wanted.sha256, shared=False)

    def _is_there(self, wanted: RecordedDatablock) -> bool:
        record = self._tools.ledger.retrieval(wanted.archive_id)
        if record is None or record.state is not RetrievalState.READY or record.sha256 != wanted.sha256:
            return False
        head = self._tools.store.head(self._tools.store_settings.s3_retrieval_bucket, wanted.archive_id)
        return head is not None and head.size == wanted.packed_size

    def _copy(self, child: ChildProcess, wanted: RecordedDatablock, holder: str, expires_at: datetime) -> None:
        tools = self._tools
        ledger, timeout = tools.ledger, tools.settings.claim_timeout_s
        claim = ledger.claim_retrieval(wanted.archive_id, holder, timedelta(seconds=timeout))
        order = CopyOrder(
            store=tools.store_settings,
            bucket=tools.store_settings.s3_retrieval_bucket,
            share=tools.share,
            archive_id=wanted.archive_id,
            packed_size=wanted.packed_size,
            sha256=wanted.sha256,
            workers=tools.settings.archiver_num_workers,
            window_bytes=tools.settings.archiver_window_mib * MEBIBYTE,
            patience_s=tools.lts.archiver_lts_file_timeout_s,
        )
        try:
            with Heartbeat(lambda: ledger.heartbeat_retrieval(claim), timeout / 4):
                self._monitor.step(
                    f"retrieve {posixpath.basename(wanted.archive_id)}",
                    lambda: child.call(copy_datablock, self._monitor.advance, order),
                    Limit.READ_LTS,
                )
                ledger.record_retrieved(claim, wanted.packed_size, wanted.sha256, expires_at)
        except ArchiverError as error:
            _give_way_if_replaced(ledger, claim, error)
            raise
        finally:
            _release(ledger, claim)


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


def report_retrieval_failure(catalogue: Catalogue, _ledger: Ledger, pid: str, error: ArchiverError) -> None:
    """Tell the catalogue that retrieving `pid` failed for good, in the words of `error`.

    Raises:
        CatalogueError: it could not be told.
    """
    if not isinstance(error, UnknownDatasetError):
        changes = {"retrieveStatusMessage": "scheduleRetrieveJobFailed", "retrieveReturnMessage": str(error)}
        catalogue.update_lifecycle(pid, changes)
