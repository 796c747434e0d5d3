"""The operators' smoke test: a data set made, archived, retrieved, compared byte by byte, and removed again.

It goes the ways of every data set, with the same storage, catalogue and ledger. Only its bag lies in a share of its
own (see `archiver.workflow.smoke_share`), so that removing it can touch nothing of the archive.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog

from archiver.workflow.archiving import CHECKSUM_ALGORITHM, Archiving
from archiver.workflow.catalogue.models import NewDataset, OrigFile
from archiver.workflow.datablocks.entries import mode_text
from archiver.workflow.errors import ArchiverError, DatasetBusyError, OtherContentError, PermanentError
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.records import UploadState
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import SMOKE_PREFIX, bag_folder, dataset_prefix
from archiver.workflow.retrieval import Retrieval
from archiver.workflow.smoke_comparison import Comparison
from archiver.workflow.smoke_files import SmokeFile, SmokeFiles
from archiver.workflow.smoke_share import make_smoke_share, old_smoke_shares, remove_smoke_share
from archiver.workflow.tar_upload import part_size
from archiver.workflow.tools import Tools

log = structlog.get_logger(__name__)

MEGABYTE = 1000**2
LEFT_BEHIND_S = 24 * 3600.0
"""A smoke test begun so long ago has ended, whatever it left behind."""
_UPLOAD_TIME = timedelta(days=1)
_WHOLE = 32 * 1024**2
"""Up to here a file is uploaded in one piece, bytes."""

Monitors = Callable[[str, str], Monitor]
"""Makes the monitor of a stage, given the pid and what is being done, as `archiving`."""


class SmokeTestError(PermanentError):
    """The smoke test failed, or left something behind."""

    code = "smoke-test-failed"


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one stage took."""

    name: str
    bytes: int
    seconds: float

    def __str__(self) -> str:
        rate = self.bytes / MEGABYTE / self.seconds if self.seconds else 0
        return f"{self.name} {self.seconds:,.1f} s ({rate:,.0f} MB/s)"


@dataclass(frozen=True, slots=True)
class SmokeTestOutcome:
    """A smoke test that passed."""

    pid: str
    files: int
    payload_bytes: int
    datablocks: int
    stages: tuple[StageTime, ...]

    @property
    def message(self) -> str:
        """The outcome in words."""
        return (
            f"passed: {self.files} files, {self.payload_bytes / MEGABYTE:,.1f} MB in {self.datablocks} datablocks "
            f"came back with every byte, time and mode; {', '.join(map(str, self.stages))}; all of it was removed again"
        )


# ------------------------------------------------------------------------------------------------ making a data set


def create_dataset(tools: Tools, monitor: Monitor, pid: str, given: SmokeFiles) -> None:
    """A data set of generated files in the catalogue and the landing zone, ready to be archived.

    When this fails, what was made is removed again.

    Raises:
        UnsafeNameError: the pid cannot name a data set of this archive.
        CatalogueRefusedError: the catalogue has a data set of that pid, which is left as it is.
        DatasetBusyError: there is an upload of that pid.
        OtherContentError: the landing zone holds files of that pid.
        ArchiverError: of the catalogue, the ledger and the object store.
    """
    user = tools.catalogue.own_user()
    group = next(iter(user.groups), user.username)
    _reserve(tools, pid, given, user.username, group)
    try:
        _describe(tools, pid, given, user.username, group)
    except BaseException:
        _attempt_all([("the upload in the ledger", lambda: _close_upload(tools, pid))])
        raise
    try:
        monitor.expect(given.total_bytes)
        listed = [_listed(folder, "", is_folder=True) for folder in given.folders()]
        listed += [_listed(file, _upload(tools, monitor, pid, given, file)) for file in given.files()]
        tools.catalogue.add_orig_files(pid, listed)
        tools.ledger.finalize_upload(pid, given.total_bytes)
        tools.catalogue.update_lifecycle(pid, {"archiveStatusMessage": "datasetCreated", "archivable": True})
    except BaseException:
        _attempt_all(_unmaking(tools, pid))
        raise


def _reserve(tools: Tools, pid: str, given: SmokeFiles, user: str, group: str) -> None:
    """Count the files among the uploads. None is refused for want of space: operators know why they ask."""
    landed = tools.store.list(tools.store_settings.s3_landingzone_bucket, dataset_prefix(pid))
    if next(iter(landed), None) is not None:
        raise OtherContentError(f"The landing zone holds files of {pid} already; they were kept. Choose another pid.")
    if tools.ledger.adopt_upload(pid, user, group, given.total_bytes, datetime.now(UTC) + _UPLOAD_TIME) is None:
        raise DatasetBusyError(f"There is an upload of {pid} already. Choose another pid, or wait for its end.")


def _describe(tools: Tools, pid: str, given: SmokeFiles, user: str, group: str) -> None:
    tools.catalogue.create_dataset(
        NewDataset(
            pid=pid,
            name=f"Generated files of the archiver ({given.count} of {given.size} bytes)",
            owner=user,
            owner_group=group,
            contact_email="operators@archiver.invalid",
            source_folder=f"/archiver/{pid}",
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def _upload(tools: Tools, monitor: Monitor, pid: str, given: SmokeFiles, file: SmokeFile) -> str:
    """Upload one file, its SHA-256 stored with it; that SHA-256."""
    bucket, key = tools.store_settings.s3_landingzone_bucket, dataset_prefix(pid) + file.path
    digest = hashlib.sha256()
    length = part_size(file.size) if file.size > _WHOLE else _WHOLE

    def parts() -> Iterator[bytearray]:
        part = bytearray()
        for chunk in given.content(file):
            digest.update(chunk)
            part += chunk
            if len(part) >= length:
                yield part
                part = bytearray()
        if part:
            yield part

    if file.size <= _WHOLE:
        tools.store.put(bucket, key, b"".join(parts()))
        monitor.advance(file.size)
        return digest.hexdigest()
    with tools.store.multipart_writer(bucket, key) as writer:
        for number, part in enumerate(parts(), start=1):
            writer.write_part(number, part)
            monitor.advance(len(part))
        writer.complete()
    return digest.hexdigest()


def _listed(file: SmokeFile, sha256: str, *, is_folder: bool = False) -> OrigFile:
    """An entry as the facility's tools list it."""
    perm = mode_text(file.mode)
    return OrigFile(
        path=file.path,
        size=file.size,
        time=datetime.fromtimestamp(file.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        perm="d" + perm[1:] if is_folder else perm,
        chk=sha256 or None,
        chk_alg=CHECKSUM_ALGORITHM if sha256 else None,
        uid="archiver",
        gid="archiver",
        type="",
    )


# ------------------------------------------------------------------------------------------------ removing it again

Removal = tuple[str, Callable[[], object]]
"""What is removed, and how."""


def _attempt_all(removals: Sequence[Removal]) -> list[str]:
    """Carry out every removal, whatever becomes of the others; what was left behind, and why."""
    left = []
    for what, remove in removals:
        try:
            remove()
        except ArchiverError as error:
            log.warning("not_removed", what=what, error=str(error))
            left.append(f"{what}: {error}")
    return left


def _unmaking(tools: Tools, pid: str) -> list[Removal]:
    """Removals of what `create_dataset` makes."""
    return [
        ("the files in the landing zone", lambda: _empty_landing(tools, pid)),
        ("the upload in the ledger", lambda: _close_upload(tools, pid)),
        ("the data set in the catalogue", lambda: tools.catalogue.remove_dataset(pid)),
    ]


def _empty_landing(tools: Tools, pid: str) -> None:
    bucket, prefix = tools.store_settings.s3_landingzone_bucket, dataset_prefix(pid)
    for begun in tools.store.list_multiparts(bucket, prefix):
        tools.store.abort_multipart(bucket, begun.key, begun.upload_id)
    tools.store.delete(bucket, tools.store.list(bucket, prefix))


def _close_upload(tools: Tools, pid: str) -> None:
    upload = tools.ledger.find_upload(pid)
    if upload is not None and upload.state is UploadState.OPEN:
        tools.ledger.abort_upload(pid)
    tools.ledger.landing_emptied(pid)


def _remove_copies(tools: Tools, pid: str) -> None:
    bucket, prefix = tools.store_settings.s3_retrieval_bucket, f"{bag_folder(pid)}/"
    known = {datablock.archive_id for datablock in tools.ledger.datablocks(pid)}
    copies = list(tools.store.list(bucket, prefix))
    tools.store.delete(bucket, copies)
    for archive_id in known | {copy.key for copy in copies}:
        tools.ledger.forget_retrieval(archive_id)


# ------------------------------------------------------------------------------------------------ the test


@dataclass
class _Watch:
    """Times stages, and knows which one is on."""

    stages: list[StageTime] = field(default_factory=list)
    current: str = "getting ready"

    @contextmanager
    def stage(self, name: str, size: int) -> Iterator[None]:
        self.current = name
        began = time.monotonic()
        yield
        self.stages.append(StageTime(name, size, time.monotonic() - began))


def smoke_pid(test: uuid.UUID) -> str:
    """The pid of a smoke test's data set."""
    return f"{SMOKE_PREFIX}/{test}"


class SmokeTest:
    """The use case; several tests may run side by side."""

    def __init__(self, tools: Tools, monitors: Monitors) -> None:
        self._tools = tools
        self._monitors = monitors

    def run(self, files: int, file_bytes: int, holder: str) -> SmokeTestOutcome:
        """Send `files` files of `file_bytes` bytes there and back; `holder` names the run.

        Whatever happens, what was made is removed again; so is what tests that were killed long ago left behind.

        Raises:
            SmokeTestError: it failed, and at which stage; or not everything could be removed.
        """
        test, watch = uuid.uuid4(), _Watch()
        given = SmokeFiles(str(test), files, file_bytes)
        try:
            left = self._remove_old()
            outcome = self._there_and_back(test, given, holder, watch)
        except ArchiverError as error:
            left = self._remove(test)
            raise SmokeTestError(f"The smoke test failed while {watch.current}: {error}{_told(left)}") from error
        except BaseException:
            self._remove(test)
            raise
        left += self._remove(test)
        if left:
            raise SmokeTestError(
                f"Everything came back as it was given, but not everything could be removed.{_told(left)}"
            )
        return outcome

    def _there_and_back(self, test: uuid.UUID, given: SmokeFiles, holder: str, watch: _Watch) -> SmokeTestOutcome:
        pid, total = smoke_pid(test), given.total_bytes
        with ChildProcess(self._tools.lts.lts_stall_timeout_s) as child:
            tools = replace(self._tools, share=child.call(make_smoke_share, None, self._tools.share, test))
        with watch.stage("uploading", total):
            create_dataset(tools, self._monitors(pid, "uploading"), pid, given)
        with watch.stage("archiving", total):
            Archiving(tools, self._monitors(pid, "archiving")).archive(pid, holder)
        with watch.stage("retrieving", total):
            retrieved = Retrieval(tools, self._monitors(pid, "retrieving")).retrieve(pid, holder)
        with watch.stage("comparing", total):
            monitor, comparison = self._monitors(pid, "comparing"), Comparison(given)
            monitor.expect(total)
            bucket = tools.store_settings.s3_retrieval_bucket
            for tar in retrieved.tars:
                comparison.take(monitor.advance, tools.store, bucket, tar.archive_id, tar.sha256)
            comparison.finish()
        return SmokeTestOutcome(pid, given.count, total, len(retrieved.tars), tuple(watch.stages))

    def _remove(self, test: uuid.UUID) -> list[str]:
        """Remove all of a smoke test; what was left behind, and why."""
        tools, pid = self._tools, smoke_pid(test)
        left = _attempt_all(
            [
                ("the retrieved copies", lambda: _remove_copies(tools, pid)),
                *_unmaking(tools, pid),
                ("the data set in the ledger", lambda: tools.ledger.forget_dataset(pid)),
            ]
        )
        if left:
            return left  # its share stays as well: by that a later test finds what is left
        return _attempt_all([("the bag", lambda: self._remove_share(test))])

    def _remove_share(self, test: uuid.UUID) -> None:
        with ChildProcess(self._tools.lts.lts_stall_timeout_s) as child:
            child.call(remove_smoke_share, None, self._tools.share, test)

    def _remove_old(self) -> list[str]:
        with ChildProcess(self._tools.lts.lts_stall_timeout_s) as child:
            old = child.call(old_smoke_shares, None, self._tools.share, LEFT_BEHIND_S)
        return [text for test in old for text in self._remove(test)]


def _told(left: Sequence[str]) -> str:
    return f" Left behind, and removed by a test after {LEFT_BEHIND_S / 3600:.0f} h: {'; '.join(left)}" if left else ""
