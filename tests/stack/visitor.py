"""A user of the facility, from outside: uploads through the proxy, asks for data back, looks at jobs."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from archiver.local.ingestor.catalogue import JobView, NewDataset, UserCatalogue
from archiver.local.ingestor.chunks import SMALLEST_CHUNK_BYTES
from archiver.local.ingestor.ingestor import Ingestor, IngestorSettings
from archiver.local.ingestor.listing import Listing, list_folder
from archiver.local.scicat.defaults import INGESTOR, OWNER_GROUP
from stack.addresses import Addresses
from stack.waiting import wait_for

CLIENT = "archiver-service-api"
JOB_WITHIN_S = 1200


class Visitor:
    """A session of the facility's ingestor with the catalogue."""

    def __init__(self, addresses: Addresses, password: str) -> None:
        self._addresses = addresses
        self.catalogue = UserCatalogue.login(addresses.catalogue, INGESTOR, password)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.catalogue.close()

    def ingest(self, folder: Path, *, never_sent: str = "") -> str:
        """List and upload a folder in parts, and have it archived; the pid of the data set.

        The file of the name `never_sent` is listed and not uploaded.
        """
        dataset = NewDataset(
            name=folder.name,
            source_folder=str(folder),
            owner=INGESTOR,
            owner_group=OWNER_GROUP,
            contact_email=f"{INGESTOR}@facility.test",
            storage_location="ETHZ",
        )
        settings = IngestorSettings(
            api_url=self._addresses.api,
            token_url=self._addresses.token,
            client_id=CLIENT,
            chunk_bytes=SMALLEST_CHUNK_BYTES,
            space_patience_s=60,
            space_pause_s=2,
        )
        listed = list_folder(folder)
        sent = Listing(tuple(entry for entry in listed.entries if entry.path != never_sent))
        ingestor = Ingestor(settings, self.catalogue, INGESTOR)
        pid = ingestor.create(dataset, listed)
        ingestor.upload(pid, dataset, sent)
        return pid

    def job_of(self, pid: str, job_type: str = "archive") -> JobView:
        """The newest job of one type for a data set, as soon as there is one."""
        return wait_for(f"{job_type} job of {pid}", lambda: next(iter(self.catalogue.jobs_of(pid, job_type)), None), 60)

    def finished(self, job_id: str, within_s: float = JOB_WITHIN_S) -> JobView:
        """The job, once it has ended."""

        def look() -> JobView | None:
            job = self.catalogue.job(job_id)
            return job if job.is_finished else None

        return wait_for(f"end of the job {job_id}", look, within_s)

    def archived(self, pid: str, within_s: float = JOB_WITHIN_S) -> JobView:
        """The archive job of a data set, which ended well."""
        job = self.finished(self.job_of(pid).id, within_s)
        assert job.is_successful, f"{job.status}: {job.message}"
        return job

    def retrieved(self, pid: str) -> JobView:
        """The job that brought a data set back."""
        job = self.finished(self.catalogue.create_retrieve_job(pid, OWNER_GROUP))
        assert job.is_successful, f"{job.status}: {job.message}"
        return job

    def datablocks(self, pid: str) -> list[str]:
        """Names of the tars that the catalogue knows of a data set."""
        path = f"/api/v3/datasets/{quote(pid, safe='')}/datablocks"
        with httpx.Client(base_url=self._addresses.catalogue, timeout=60) as http:
            found = http.get(path, headers={"Authorization": f"Bearer {self.catalogue.token}"})
        found.raise_for_status()
        return sorted(str(each["archiveId"]).rpartition("/")[2] for each in found.json())

    def lifecycle(self, pid: str) -> Mapping[str, Any]:
        """What the catalogue says of the data set's archive."""
        return self.catalogue.lifecycle(pid)
