"""Uploads of data sets into the landing zone: reserve, hand out URLs, complete, finish or give up."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from archiver.backend.access import Access, Principal
from archiver.backend.errors import AlreadyArchivedError, NoSpaceForDatasetError
from archiver.backend.links import UploadLinks
from archiver.config.settings import GIBIBYTE, MEBIBYTE, LandingZoneSettings, ObjectStoreSettings
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Dataset
from archiver.workflow.errors import DatasetBusyError, UnsafeNameError
from archiver.workflow.ledger.errors import (
    LargerThanLandingZoneError,
    NoLandingSpaceError,
    NoOpenUploadError,
    UploadOpenError,
)
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import UploadRecord, UploadState
from archiver.workflow.ledger.uploads import LIVE
from archiver.workflow.names import DATASETS_FOLDER, RAW_FILES, dataset_prefix, file_path_of_key
from archiver.workflow.storage.object_store import CompletedPart, ObjectStore, UploadRefusedError

log = structlog.get_logger(__name__)

ROUNDING_BYTES = GIBIBYTE
"""Clients round the size down to whole GiB."""
LARGEST_PART = 5 * GIBIBYTE
"""S3's limit for one PUT."""
LONGEST_LIFETIME = timedelta(days=7)
ACTIVITY_NOTED_EVERY = timedelta(hours=1)
"""Sending through the edge is noted by itself; what goes straight to the storage shows only by what is asked here."""
ARCHIVE_STATUS_ARCHIVED = "datasetOnArchiveDisk"


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """Where a completed object lies: its URL and its key."""

    location: str
    key: str


def dataset_of(pid: str, key: str) -> str:
    """`pid`, or where a client leaves it empty the data set that the key lies in.

    Raises:
        UnsafeNameError: the key lies in no data set.
    """
    if pid:
        return pid
    folder, found, _ = key.removeprefix(f"{DATASETS_FOLDER}/").partition(f"/{RAW_FILES}/")
    if not found or not key.startswith(f"{DATASETS_FOLDER}/"):
        raise UnsafeNameError(
            f"The object name must begin with {DATASETS_FOLDER}/<dataset_id>/{RAW_FILES}/: {key!r}. "
            "Send the dataset_id, too."
        )
    return folder


def url_lifetime(upload: UploadRecord, parts: int, settings: LandingZoneSettings) -> timedelta:
    """Time for the largest object that `parts` URLs can be for, at the slowest rate supported; 7 days at most."""
    largest = min(upload.reserved_bytes, parts * LARGEST_PART)
    needed = timedelta(seconds=largest / (settings.upload_minimum_rate_mib_s * MEBIBYTE))
    return min(max(needed, timedelta(seconds=settings.url_expiration_seconds)), LONGEST_LIFETIME)


class DatasetUploads:
    """The use cases behind /s3. Synchronous, thread-safe.

    Every method first asks whether the caller may touch the data set, and raises what `Access.owner_group` does.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: ObjectStore,
        catalogue: Catalogue,
        access: Access,
        links: UploadLinks,
        landing: LandingZoneSettings,
        store_settings: ObjectStoreSettings,
        claim_timeout: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """A run that gave a sign of life less than `claim_timeout` ago is still working."""
        self._ledger = ledger
        self._store = store
        self._catalogue = catalogue
        self._access = access
        self._links = links
        self._landing = landing
        self._bucket = store_settings.s3_landingzone_bucket
        self._public_endpoint = store_settings.public_endpoint
        self._claim_timeout = claim_timeout
        self._clock = clock

    def request(self, caller: Principal, pid: str, size_gib: int) -> str:
        """Reserves space for a data set of `size_gib` GiB, rounded down by the client; what was done, in words.

        Asking again replaces the reservation.

        Raises:
            NoSpaceForDatasetError: there is no room now.
            LargerThanLandingZoneError: there never will be.
            UploadOpenError, UploadFinalizedError: there is an upload already, of somebody else or finished.
            AlreadyArchivedError: the data set is in the archive.
        """
        dataset = self._access.dataset(caller, pid)
        self._refuse_archived(dataset)
        announced = size_gib * GIBIBYTE
        reserved = announced + ROUNDING_BYTES
        capacity = self._landing.capacity_bytes
        if reserved > capacity:
            raise LargerThanLandingZoneError(capacity, reserved)
        expires_at = self._clock() + timedelta(hours=self._landing.upload_expiration_hours)
        try:
            self._ledger.reserve_upload(
                pid, caller.holder, dataset.owner_group, announced, reserved, capacity, expires_at
            )
        except NoLandingSpaceError as error:
            raise NoSpaceForDatasetError(pid, reserved // GIBIBYTE, str(error)) from error
        log.info("upload_reserved", pid=pid, holder=caller.holder, reserved_bytes=reserved)
        return f"Reserved {reserved // GIBIBYTE} GiB of the landing zone for dataset {pid}"

    def presign(self, caller: Principal, pid: str, key: str, parts: int) -> tuple[str, Sequence[str]]:
        """Upload id (empty for one part) and URLs of an object of the data set's open upload.

        Raises:
            UnsafeNameError: the key lies outside the data set.
            NoOpenUploadError, UploadOpenError: no upload is open, or it is somebody else's.
        """
        pid = dataset_of(pid, key)
        upload = self._own_upload(caller, pid, key)
        lifetime = url_lifetime(upload, parts, self._landing)
        if parts == 1:
            return "", [self._links.whole(pid, key, lifetime)]
        upload_id = self._store.create_multipart(self._bucket, key)
        self._ledger.open_multipart(pid, key, upload_id)
        return upload_id, self._links.parts(pid, key, upload_id, parts, lifetime)

    def complete(
        self, caller: Principal, pid: str, key: str, upload_id: str, parts: Sequence[CompletedPart], checksum: str
    ) -> ObjectLocation:
        """Makes the parts one object. Completing again is no error.

        Clients complete an object of exactly one chunk, too, though it was sent whole and has no upload id: that
        is right when the object is there with this checksum.

        Raises:
            UploadRefusedError: parts or checksums are not what was uploaded.
            UnsafeNameError, NoOpenUploadError, UploadOpenError: as for `presign`.
        """
        pid = dataset_of(pid, key)
        self._own_upload(caller, pid, key)
        if not upload_id:
            self._check_whole_object(key, parts)
            return self._location("", key)
        completed = self._store.complete_multipart(self._bucket, key, upload_id, parts, checksum or None)
        self._ledger.close_multipart(pid, key, upload_id)
        return self._location(completed.location, key)

    def abort_multipart(self, caller: Principal, pid: str, key: str, upload_id: str) -> None:
        """Drops an upload in parts; an unknown one is gone already.

        Raises:
            UnsafeNameError, NoOpenUploadError, UploadOpenError: as for `presign`.
        """
        pid = dataset_of(pid, key)
        self._own_upload(caller, pid, key)
        if upload_id:
            self._store.abort_multipart(self._bucket, key, upload_id)
            self._ledger.close_multipart(pid, key, upload_id)
            self._ledger.release_object(pid, key)

    def finalize(
        self, caller: Principal, pid: str, *, create_job: bool, owner_group: str, owner_user: str, contact_email: str
    ) -> None:
        """Ends the upload, tells SciCat that the data set can be archived, and makes the job where asked to.

        Finalizing again tells it again. SciCat may call /archiver/jobs before this returns.

        Raises:
            NoOpenUploadError, UploadOpenError: nothing was uploaded, or somebody else does.
            AlreadyArchivedError, DatasetBusyError: the data set is in the archive, or on its way there.
        """
        dataset = self._access.dataset(caller, pid)
        self._access.require_group(caller, owner_group, "the job")
        self._refuse_archived(dataset)
        self._refuse_busy(pid)
        self._own_live_upload(caller, pid)
        self._drop_multiparts(pid)
        landed = self._store.usage(self._bucket, dataset_prefix(pid))
        self._ledger.finalize_upload(pid, landed.bytes)
        self._catalogue.update_lifecycle(pid, {"archiveStatusMessage": "datasetCreated", "archivable": True})
        job = None
        if create_job:
            job = self._catalogue.create_job("archive", pid, owner_user, owner_group, contact_email, owner_user)
        log.info("upload_finalized", pid=pid, objects=landed.objects, bytes=landed.bytes, job=job)

    def abort(self, caller: Principal, pid: str) -> None:
        """Empties the landing zone of the data set and gives its space free. Aborting again is no error.

        Where it does not get to its end, what is left counts on and is reported: abort again, or upload anew.
        A finished upload can be taken back until its data set is archived, so that it can be uploaded anew.

        Raises:
            AlreadyArchivedError: the data set is in the archive; operators can look after what is left.
            DatasetBusyError: it is being archived.
            UploadOpenError: somebody else is uploading it.
        """
        dataset = self._access.dataset(caller, pid)
        self._refuse_archived(dataset)
        self._refuse_busy(pid)
        upload = self._ledger.find_upload(pid)
        finalized = upload is not None and upload.state is UploadState.FINALIZED
        if upload is not None and (finalized or upload.state is UploadState.OPEN):
            self._require_holder(caller, upload)
        if not finalized:
            # First, so that nothing more is granted while the objects are being deleted. Their space is free only
            # when they are gone: whatever comes in between must leave it counted.
            self._ledger.abort_upload(pid, emptied=False)
        self._drop_multiparts(pid)
        left = self._store.delete(self._bucket, self._store.list(self._bucket, dataset_prefix(pid)))
        if left:
            left = self._store.delete(self._bucket, self._store.list(self._bucket, dataset_prefix(pid)))
        if left:
            raise DatasetBusyError(
                f"Objects of {pid} are still being written. Stop the upload and abort again.",
                [found.key for found in left],
            )
        if finalized:
            self._ledger.landing_emptied(pid)
        self._ledger.record_left_behind(pid, 0)
        log.info("upload_aborted", pid=pid, caller=caller.holder)

    def _own_upload(self, caller: Principal, pid: str, key: str) -> UploadRecord:
        self._access.owner_group(caller, pid)
        file_path_of_key(pid, key)
        upload = self._ledger.find_upload(pid)
        if upload is None or upload.state is not UploadState.OPEN:
            raise NoOpenUploadError(f"There is no open upload of {pid}. Ask /s3/requestDatasetUpload for one.")
        self._require_holder(caller, upload)
        if self._clock() - upload.touched_at >= ACTIVITY_NOTED_EVERY:
            self._ledger.touch_upload(pid)
        return upload

    def _own_live_upload(self, caller: Principal, pid: str) -> UploadRecord:
        upload = self._ledger.find_upload(pid)
        if upload is None or upload.state not in LIVE:
            raise NoOpenUploadError(f"There is no upload of {pid} to finish. Ask /s3/requestDatasetUpload for one.")
        return self._require_holder(caller, upload)

    @staticmethod
    def _require_holder(caller: Principal, upload: UploadRecord) -> UploadRecord:
        if upload.holder != caller.holder and not caller.is_operator:
            raise UploadOpenError(
                f"{upload.pid} is being uploaded by {upload.holder}. Wait until that upload is finished or aborted."
            )
        return upload

    def _refuse_archived(self, dataset: Dataset) -> None:
        recorded = self._ledger.dataset(dataset.pid)
        lifecycle = dataset.lifecycle
        retirement = self._ledger.retirement(dataset.pid)
        if retirement is not None and retirement.state.stage is not None:
            raise AlreadyArchivedError(retirement.message)
        if (
            (recorded is not None and recorded.archived_at is not None)
            or lifecycle.retrievable
            or lifecycle.archive_status == ARCHIVE_STATUS_ARCHIVED
        ):
            raise AlreadyArchivedError(
                f"{dataset.pid} is archived. Create another data set for other files, or retrieve this one."
            )

    def _refuse_busy(self, pid: str) -> None:
        recorded = self._ledger.dataset(pid)
        if (
            recorded is not None
            and recorded.holder is not None
            and recorded.heartbeat_at is not None
            and self._clock() - recorded.heartbeat_at < self._claim_timeout
        ):
            raise DatasetBusyError(f"{pid} is being archived by {recorded.holder}. Wait until that run has ended.")

    def _drop_multiparts(self, pid: str) -> None:
        begun = dict.fromkeys(self._ledger.multiparts(pid))
        found = self._store.list_multiparts(self._bucket, dataset_prefix(pid))
        for key, upload_id in dict.fromkeys([*begun, *((open_one.key, open_one.upload_id) for open_one in found)]):
            self._store.abort_multipart(self._bucket, key, upload_id)
            if (key, upload_id) in begun:
                self._ledger.close_multipart(pid, key, upload_id)

    def _check_whole_object(self, key: str, parts: Sequence[CompletedPart]) -> None:
        head = self._store.head(self._bucket, key)
        if head is None:
            raise UploadRefusedError(f"There is no object {key!r}. Send the file again.")
        if len(parts) != 1:
            raise UploadRefusedError(f"{key!r} was sent whole, but {len(parts)} parts are named. Send the file again.")
        part = parts[0]
        if head.checksum is None or not part.checksum_sha256:
            matches = part.etag.strip('"') == head.etag
        elif head.checksum.part_sizes:
            matches = head.checksum.sha256_base64 == _composite(part.checksum_sha256)
        else:
            matches = head.checksum.sha256_base64 == part.checksum_sha256
        if not matches:
            raise UploadRefusedError(f"{key!r} is there, but it is not what was sent last. Send the file again.")

    def _location(self, location: str, key: str) -> ObjectLocation:
        return ObjectLocation(location or f"{self._public_endpoint}/{self._bucket}/{key}", key)


def _composite(part_checksum: str) -> str:
    """The composite SHA-256 of an object of this one part, base64.

    Raises:
        UploadRefusedError: the checksum is no base64.
    """
    try:
        digest = base64.b64decode(part_checksum, validate=True)
    except ValueError as error:
        raise UploadRefusedError(f"{part_checksum!r} is no checksum in base64. Send the file again.") from error
    return base64.b64encode(hashlib.sha256(digest).digest()).decode()
