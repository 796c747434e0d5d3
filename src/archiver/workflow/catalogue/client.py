"""The catalogue: what the service reads from SciCat, and what it tells it."""

import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote

import structlog

from archiver.config.settings import CatalogueSettings
from archiver.workflow.catalogue.blocks import BlockReader
from archiver.workflow.catalogue.connection import Connection
from archiver.workflow.catalogue.documents import (
    datablock_difference,
    is_kept,
    merge_patch,
    names_of_unknown_fields,
    read_datablock,
    read_dataset,
    read_lifecycle,
    read_orig_files,
    write_datablock,
)
from archiver.workflow.catalogue.ingestion import Ingestion
from archiver.workflow.catalogue.jobs import JobsV3, JobsV4
from archiver.workflow.catalogue.models import (
    CatalogueUser,
    Datablock,
    Dataset,
    Job,
    JsonObject,
    Lifecycle,
    NewDataset,
    OrigFile,
)
from archiver.workflow.catalogue.responses import RefusedCallError, expect_object, unknown_dataset
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError

log = structlog.get_logger(__name__)

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_LIFECYCLE_WRITES = 5
_PATIENCE_OF_A_CALLER_S = 10.0
"""Time for retries while somebody waits for an answer of the API, seconds."""
_SINCE_LATER = ("storageLocation",)
"""Fields of the lifecycle that older versions of SciCat do not know yet."""


class Catalogue:
    """SciCat as the archive's service account sees it. Thread-safe.

    Calls that may be repeated are, for SCICAT_RETRY_S seconds; those that may not are settled by looking
    whether they took effect. Every method may raise

    - CatalogueError: SciCat gave no proper answer in that time;
    - CatalogueRefusedError: it refused (rights, validation), or is not the SciCat that was expected.
    """

    def __init__(self, settings: CatalogueSettings) -> None:
        """See `open`."""
        self._connection = Connection(settings)
        self._v3 = settings.scicat_api_prefix
        self._v4: str | None = re.sub("/v3$", "/v4", self._v3)
        if self._v4 == self._v3:
            self._v4 = None
        self._blocks = BlockReader(self._connection, self._v3)
        self._ingestion = Ingestion(self._connection, self._blocks, self._v3)
        jobs = JobsV3 if settings.scicat_jobs_api_prefix.endswith("/v3") else JobsV4
        self._jobs = jobs(self._connection, settings.scicat_jobs_api_prefix)
        self._locks: dict[str, tuple[threading.Lock, int]] = {}
        self._locks_lock = threading.Lock()

    @classmethod
    def open(cls, settings: CatalogueSettings) -> Self:
        """A catalogue that logs in with the first call that needs it.

        Raises:
            CatalogueRefusedError: SCICAT_ENDPOINT is not set or SCICAT_CA_FILE cannot be used.
        """
        return cls(settings)

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Nothing when SciCat is well. One try, no login, SCICAT_TIMEOUT_S seconds at most.

        Raises:
            CatalogueError: it is not, or cannot be reached.
        """
        purpose = "say how it is"
        answer = self._connection.call_anonymously("GET", f"{self._v3}/health", purpose)
        if expect_object(answer, purpose).get("status") != "ok":
            raise CatalogueError(f"SciCat says it is not well: {answer}. Look at SciCat's own log.")

    def own_user(self) -> CatalogueUser:
        """The service account as SciCat knows it.

        Raises:
            CatalogueRefusedError: SciCat takes our token for nobody's.
        """
        return self._own_user()[0]

    def _own_user(self) -> tuple[CatalogueUser, bool]:
        """The service account, and whether it had to log in again to be known."""
        purpose = "tell the service account's groups"
        for renewed in (False, True):
            if renewed:
                self._connection.log_in_again()
            found = _read_user(self._connection.call("GET", f"{self._v3}/auth/whoami", purpose))
            if found is not None:
                return found, renewed
        raise CatalogueRefusedError("SciCat does not know a token it has just given. Look at SciCat's log.")

    def user_of_token(self, token: str) -> CatalogueUser | None:
        """The user somebody else's SciCat token belongs to; None when it is expired or none of SciCat's."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            identity = self._call_as(token, "users/my/identity")
            return self._whoami(token) or _read_identity(identity)
        except RefusedCallError as error:
            if error.status in (401, 403):
                return None
            raise

    def _call_as(self, token: str, path: str) -> Any:
        within_s = min(self._connection.retry_s, _PATIENCE_OF_A_CALLER_S)
        purpose = "tell whose token it was given"
        return self._connection.call("GET", f"{self._v3}/{path}", purpose, token=token, within_s=within_s)

    def _whoami(self, token: str) -> CatalogueUser | None:
        """The user with the groups SciCat itself goes by; None from versions that do not tell."""
        try:
            return _read_user(self._call_as(token, "auth/whoami"))
        except RefusedCallError as error:
            if error.status == 404:
                return None
            raise

    def dataset(self, pid: str) -> Dataset:
        """The record of a data set.

        Raises:
            UnknownDatasetError: there is none.
        """
        purpose = f"show the data set {pid}"
        with unknown_dataset(pid):
            return read_dataset(
                expect_object(self._connection.call("GET", self._path(self._v3, pid), purpose), purpose)
            )

    def orig_files(self, pid: str) -> list[OrigFile]:
        """All files the ingestor listed, in SciCat's order; empty when it listed none.

        Raises:
            UnknownDatasetError, CatalogueRefusedError, CatalogueError: as for `each_orig_file`.
        """
        return list(self.each_orig_file(pid))

    def each_orig_file(self, pid: str) -> Iterator[OrigFile]:
        """The files the ingestor listed, in SciCat's order, never more than a few blocks of them in memory.

        Only the end of the iteration says that these are all of them.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueRefusedError: SciCat shows us fewer files than it holds.
            CatalogueError: the list changed while it was read.
        """
        dataset = self.dataset(pid)
        blocks = files = 0
        for block in self._blocks.each(pid, "origdatablocks"):
            found = read_orig_files(block)
            blocks += 1
            files += len(found)
            yield from found
        held = self._count_origdatablocks(pid)
        if (not files and dataset.number_of_files > 0) or (held is not None and held > blocks):
            raise CatalogueRefusedError(
                f"SciCat shows {blocks} origdatablocks with {files} files of {pid}, "
                f"but holds {'more' if held is None else held} and counts {dataset.number_of_files} files. "
                "Give SCICAT_USER's group the right to read all origdatablocks."
            )
        if dataset.number_of_files != files:
            # Only told: SciCat itself gets this sum wrong when there are more than 10 or 100 blocks.
            log.warning(
                "catalogue_count_differs",
                pid=pid,
                number_of_files=dataset.number_of_files,
                files_listed=files,
            )

    def _count_origdatablocks(self, pid: str) -> int | None:
        """How many there are; None when we may not ask."""
        purpose = f"count the origdatablocks of {pid}"
        try:
            found = self._connection.call(
                "GET", self._path(self._v3, pid, "origdatablocks/count"), purpose, renew=False
            )
        except RefusedCallError:
            return None
        count = expect_object(found, purpose).get("count")
        return count if isinstance(count, int) else None

    def datablocks(self, pid: str, *, with_files: bool = True) -> list[Datablock]:
        """All registered datablocks of a data set, in SciCat's order; `with_files=False` spares their lists.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueError: the list changed while it was read.
        """
        if with_files:
            return self._blocks.read(pid, "datablocks", read_datablock)
        return [read_datablock(block) for block in self._blocks.headers(pid, "datablocks")]

    def datablock(self, pid: str, block_id: str) -> Datablock:
        """One registered datablock with its files, by SciCat's own id.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueError: it is not there any more.
        """
        document = self._blocks.read_one(pid, "datablocks", block_id)
        if document is None:
            raise CatalogueError(f"The datablocks of {pid} changed while they were read. Try again.")
        return read_datablock(document)

    def register_datablock(self, pid: str, block: Datablock) -> Datablock:
        """The registered datablock, read back and equal to `block`. One that is there already is adopted.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueRefusedError: another datablock has the same `archive_id`, or it is too large.
            CatalogueError: SciCat did not keep what it was given.
        """
        purpose = f"register the datablock {block.archive_id}"
        body = write_datablock(pid, block)

        def register() -> Datablock:
            self._connection.call("POST", f"{self._v3}/datablocks", purpose, body=body, once=True)
            if (found := self._registered(pid, block)) is None:
                raise CatalogueError(
                    f"SciCat took the datablock {block.archive_id} and does not show it. "
                    f"Check that {pid} is still in SciCat and SCICAT_USER's group may read datablocks."
                )
            log.info("catalogue_datablock_registered", pid=pid, archive_id=block.archive_id)
            return found

        with self._writing(pid):
            if (found := self._registered(pid, block)) is not None:
                log.info("catalogue_datablock_adopted", pid=pid, archive_id=block.archive_id)
                return found
            try:
                return self._connection.write(register, lambda: self._registered(pid, block), purpose)
            except RefusedCallError as error:
                if error.status != 409:
                    raise
                raise CatalogueRefusedError(
                    f"Another data set in SciCat than {pid} has a datablock {block.archive_id}. "
                    "Find out why, and delete that one if it is wrong."
                ) from error

    def remove_datablock(self, pid: str, block: Datablock) -> None:
        """Removes a registered datablock, by its `id`, from the catalogue; the archive is not touched.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueRefusedError: SCICAT_USER's groups may not delete.
            CatalogueError: SciCat still shows it.
        """
        purpose = f"remove the datablock {block.archive_id} from the catalogue"
        with self._writing(pid):
            try:
                path = self._path(self._v3, pid, f"datablocks/{quote(block.id, safe='')}")
                self._connection.call("DELETE", path, purpose)
            except RefusedCallError as error:
                if error.status != 404 or error.is_about_the_route:
                    raise
            if any(each.id == block.id for each in self.datablocks(pid, with_files=False)):
                raise CatalogueError(f"SciCat took the removal of the datablock {block.archive_id} and still shows it.")
        log.info("catalogue_datablock_removed", pid=pid, archive_id=block.archive_id)

    def may_remove_datablocks(self) -> bool:
        """Whether SCICAT_USER's groups may delete datablocks. None is deleted by asking.

        SciCat looks at the rights first, and then for the data set; it is asked for one that does not exist.
        """
        path = self._path(self._v3, f"archiver-doctor/{uuid.uuid4()}", f"datablocks/{uuid.uuid4()}")
        try:
            self._connection.call("DELETE", path, "say whether datablocks may be deleted")
        except RefusedCallError as error:
            if error.status in (401, 403):
                return False
            if error.status != 404 or error.is_about_the_route:
                raise
        return True

    def _registered(self, pid: str, block: Datablock) -> Datablock | None:
        """The data set's datablock of that `archive_id`, equal to `block`.

        Raises:
            CatalogueRefusedError: it is another one.
        """
        headers = self.datablocks(pid, with_files=False)
        header = next((header for header in headers if header.archive_id == block.archive_id), None)
        if header is None:
            return None
        found = self.datablock(pid, header.id)
        if difference := datablock_difference(block, found):
            raise CatalogueRefusedError(
                f"SciCat has another datablock {block.archive_id} of {pid} (id {found.id}): {difference}. "
                "It is left as it is; find out which is right, and delete the wrong one in SciCat."
            )
        return found

    def update_lifecycle(self, pid: str, changes: Mapping[str, Any]) -> Lifecycle:
        """The lifecycle after `changes`, read back. Fields not named stay; None empties a return message.

        Other writers of SciCat overwrite whole records; so it is written again, a few times, when what is
        read back is not what was written. A write that comes later still can undo it.

        Args:
            pid: the data set.
            changes: fields of `datasetlifecycle` by SciCat's names.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueError: others kept overwriting it.
        """
        wanted = dict(changes)
        with self._writing(pid), unknown_dataset(pid):
            for _ in range(_LIFECYCLE_WRITES):
                wanted = self._write_lifecycle(pid, wanted)
                found = self._lifecycle(pid)
                lost = [name for name, value in wanted.items() if not is_kept(value, found.get(name))]
                if not lost:
                    return read_lifecycle(found)
                log.warning("catalogue_lifecycle_overwritten", pid=pid, fields=lost)
        raise CatalogueError(
            f"SciCat did not keep {', '.join(lost)} of {pid}'s lifecycle in {_LIFECYCLE_WRITES} tries. "
            "Find out what else writes to this data set."
        )

    def _lifecycle(self, pid: str) -> JsonObject:
        purpose = f"show the lifecycle of {pid}"
        return expect_object(
            self._connection.call("GET", self._path(self._v3, pid, "datasetlifecycle"), purpose), purpose
        )

    def _write_lifecycle(self, pid: str, wanted: JsonObject) -> JsonObject:
        """Writes once and gives what was written: without fields this version of SciCat does not know."""
        try:
            self._patch_lifecycle(pid, wanted)
        except RefusedCallError as error:
            unknown = names_of_unknown_fields(error.reason, _SINCE_LATER)
            rest = {name: value for name, value in wanted.items() if name not in unknown}
            if not unknown or not rest:
                raise
            log.warning("catalogue_lifecycle_field_unknown", pid=pid, fields=unknown)
            self._patch_lifecycle(pid, rest)
            return rest
        return wanted

    def _patch_lifecycle(self, pid: str, wanted: JsonObject) -> None:
        purpose = f"change the lifecycle of {pid}"
        if self._v4 is not None:
            patch = wanted
            if any(isinstance(value, Mapping) for value in wanted.values()):
                # v4 merges objects key by key: keys of an older message must be named to go.
                found = self._lifecycle(pid)
                patch = {name: merge_patch(value, found.get(name)) for name, value in wanted.items()}
            path = self._path(self._v4, pid, "datasetlifecycle")
            try:
                self._connection.call("PATCH", path, purpose, body=patch, merge=True)
            except RefusedCallError as error:
                if not error.is_about_the_route:
                    raise
                log.info("catalogue_without_v4_lifecycle", path=path)
                self._v4 = None
            else:
                return
        self._connection.call("PATCH", self._path(self._v3, pid, "datasetlifecycle"), purpose, body=wanted)

    def job(self, job_id: str) -> Job:
        """A job.

        Raises:
            BadJobError: SciCat does not know it.
        """
        return self._jobs.read(job_id)

    def update_job(self, job_id: str, status: str, message: str, result: Mapping[str, Any] | None = None) -> None:
        """Sets the state of a job. The v3 API has no place for `message`.

        Args:
            job_id: the job.
            status: `statusCode`, as `inProgress`.
            message: `statusMessage`.
            result: replaces `jobResultObject`; None leaves it.

        Raises:
            BadJobError: SciCat does not know the job.
        """
        self._jobs.update(job_id, status, message, result)

    def jobs_in_state(self, types: Sequence[str], statuses: Sequence[str]) -> list[Job]:
        """The jobs of these types whose status is one of `statuses`."""
        found = self._jobs.in_state(types, statuses)
        if not found:
            # To an unknown caller SciCat may show no jobs, rather than refuse.
            _, renewed = self._own_user()
            if renewed:
                return self._jobs.in_state(types, statuses)
        return found

    def create_job(
        self, job_type: str, pid: str, owner_user: str, owner_group: str, contact_email: str, username: str
    ) -> str:
        """The id of a new job on a data set. SciCat then calls the job's URL action.

        A failure of that action leaves the job submitted, and is not an error here.

        Args:
            job_type: as `archive`.
            pid: the data set.
            owner_user: user the job belongs to; empty to leave it out.
            owner_group: group the job belongs to.
            contact_email: whom SciCat writes to; empty to leave it out.
            username: the `username` among the job's parameters.
        """
        purpose = f"create a job of type {job_type} for {pid}"
        with self._writing(pid):
            before = {job.id for job in self._jobs.of_dataset(job_type, pid)}

            def created() -> str | None:
                jobs = self._jobs.of_dataset(job_type, pid)
                return next((job.id for job in jobs if job.id not in before), None)

            return self._connection.write(
                lambda: self._jobs.create(job_type, pid, owner_user, owner_group, contact_email, username, purpose),
                created,
                purpose,
            )

    def create_dataset(self, dataset: NewDataset) -> None:
        """Creates a data set without files, not archivable yet.

        Raises:
            CatalogueRefusedError: there is one of that pid, which is left as it is; or we may not create any.
        """
        with self._writing(dataset.pid):
            self._ingestion.create(dataset)

    def add_orig_files(self, pid: str, files: Sequence[OrigFile]) -> None:
        """Lists files of a data set, as many as there are. All checksums must be of one algorithm.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
        """
        with self._writing(pid):
            self._ingestion.add_files(pid, files)

    def remove_dataset(self, pid: str) -> bool:
        """Removes a data set with its origdatablocks and datablocks; False when SciCat does not know it.

        For data sets that were made to be removed. Broken off, it can be called again.

        Raises:
            CatalogueRefusedError: SCICAT_USER's groups may not delete.
        """
        with self._writing(pid):
            return self._ingestion.remove(pid)

    @staticmethod
    def _path(prefix: str, pid: str, tail: str = "") -> str:
        return f"{prefix}/datasets/{quote(pid, safe='')}{tail and '/' + tail}"

    @contextmanager
    def _writing(self, pid: str) -> Iterator[None]:
        """One writer per data set: SciCat writes whole records and would lose one of two changes."""
        with self._locks_lock:
            lock, users = self._locks.get(pid, (threading.Lock(), 0))
            self._locks[pid] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._locks_lock:
                _, users = self._locks[pid]
                if users == 1:
                    del self._locks[pid]
                else:
                    self._locks[pid] = lock, users - 1


def _read_user(document: Any) -> CatalogueUser | None:
    """A user from `whoami`, which answers nothing to nobody."""
    if not isinstance(document, dict) or not isinstance(name := document.get("username"), str):
        return None
    return CatalogueUser(name, _groups(document.get("currentGroups")))


def _read_identity(document: Any) -> CatalogueUser | None:
    """A user from `users/my/identity`."""
    profile = document.get("profile") if isinstance(document, dict) else None
    if not isinstance(profile, dict) or not isinstance(name := profile.get("username"), str):
        return None
    return CatalogueUser(name, _groups(profile.get("accessGroups")))


def _groups(value: Any) -> tuple[str, ...]:
    return tuple(group for group in value if isinstance(group, str)) if isinstance(value, list) else ()
