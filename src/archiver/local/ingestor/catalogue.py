"""The catalogue as a user of the facility uses it: data sets, lists of files, jobs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

from archiver.local.ingestor.errors import ServerRefusedError
from archiver.local.ingestor.http import TIMEOUT, send, with_patience
from archiver.local.ingestor.listing import ListedEntry, rfc3339

BLOCK_FILES = 20_000
BLOCK_BYTES = 200_000_000_000
"""A list of files ends with the entry that reaches one of these."""
_STATUS_BEFORE_UPLOAD = "filesNotYetAvailable"
_SUBMITTED = "jobSubmitted"


@dataclass(frozen=True, slots=True)
class NewDataset:
    """What the facility says of a data set."""

    name: str
    source_folder: str
    owner: str
    owner_group: str
    contact_email: str
    storage_location: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """scientificMetadata."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it."""

    id: str
    type: str
    status: str
    """`finished…` when it has ended."""
    message: str
    result: Mapping[str, Any]
    """jobResultObject."""

    @property
    def is_finished(self) -> bool:
        """It has ended, well or badly."""
        return self.status.startswith("finished")

    @property
    def is_successful(self) -> bool:
        """It has ended well."""
        return self.status == "finishedSuccessful"


def file_lists(entries: Sequence[ListedEntry]) -> Iterator[Sequence[ListedEntry]]:
    """The entries in the portions in which they are registered."""
    begin = size = 0
    for place, entry in enumerate(entries):
        size += entry.size
        if place + 1 - begin >= BLOCK_FILES or size >= BLOCK_BYTES:
            yield entries[begin : place + 1]
            begin, size = place + 1, 0
    if begin < len(entries):
        yield entries[begin:]


def _as_registered(entry: ListedEntry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "uid": entry.user,
        "gid": entry.group,
        "perm": entry.mode,
        "size": entry.size,
        "time": rfc3339(entry.mtime),
    }


class UserCatalogue:
    """A user's session with SciCat. Thread-safe.

    Every method may raise

    - ServerUnreachableError: SciCat does not answer;
    - ServerRefusedError: it refused, for instance because the session has expired.
    """

    def __init__(self, url: str, token: str) -> None:
        """See `login`."""
        self.token = token
        """The user's SciCat token."""
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, headers={"Authorization": f"Bearer {token}"})

    @classmethod
    def login(cls, url: str, username: str, password: str) -> Self:
        """A session of a functional account at `url` (without `/api`)."""
        with httpx.Client(timeout=TIMEOUT) as http:
            answer = with_patience(
                lambda: send(
                    http,
                    "POST",
                    f"{url}/api/v3/auth/login",
                    what=f"login of {username} to SciCat",
                    expect=(200, 201),
                    json={"username": username, "password": password},
                )
            )
        return cls(url, str(answer.json()["access_token"]))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_dataset(self, dataset: NewDataset) -> str:
        """A new raw data set whose files are not there yet; its pid, chosen by SciCat."""
        body = {
            "type": "raw",
            "datasetName": dataset.name,
            "sourceFolder": dataset.source_folder,
            "owner": dataset.owner,
            "ownerGroup": dataset.owner_group,
            "contactEmail": dataset.contact_email,
            "principalInvestigator": dataset.owner,
            "creationLocation": "/demo/instrument",
            "creationTime": datetime.now(UTC).isoformat(timespec="seconds"),
            "scientificMetadata": dict(dataset.metadata),
            "datasetlifecycle": {
                "isOnCentralDisk": False,
                "archivable": False,
                "archiveStatusMessage": _STATUS_BEFORE_UPLOAD,
                "storageLocation": dataset.storage_location,
            },
        }
        answer = send(
            self._http, "POST", "/api/v3/datasets", what="creating the data set", expect=(200, 201), json=body
        )
        return str(answer.json()["pid"])

    def register_files(self, pid: str, entries: Sequence[ListedEntry]) -> int:
        """List the files of a data set, in as many origdatablocks as it takes; their number."""
        lists = 0
        for portion in file_lists(entries):
            body = {
                "datasetId": pid,
                "size": sum(entry.size for entry in portion),
                "dataFileList": [_as_registered(entry) for entry in portion],
            }
            send(
                self._http,
                "POST",
                "/api/v3/origdatablocks",
                what=f"listing files of {pid}",
                expect=(200, 201),
                json=body,
            )
            lists += 1
        return lists

    def lifecycle(self, pid: str) -> Mapping[str, Any]:
        """The data set's datasetlifecycle."""
        path = f"/api/v3/datasets/{quote(pid, safe='')}/datasetlifecycle"
        found: Mapping[str, Any] = self._get(path, f"reading the state of {pid}")
        return found

    def create_retrieve_job(self, pid: str, owner_group: str) -> str:
        """Ask for a data set back, as the catalogue's button does; the job's id."""
        body = {
            "type": "retrieve",
            "ownerGroup": owner_group,
            "jobParams": {"datasetList": [{"pid": pid, "files": []}]},
        }
        answer = send(self._http, "POST", "/api/v4/jobs", what=f"asking for {pid} back", expect=(200, 201), json=body)
        return str(answer.json()["id"])

    def job(self, job_id: str) -> JobView:
        """A job as it is now."""
        return _job_view(self._get(f"/api/v4/jobs/{job_id}", f"reading the job {job_id}"))

    def jobs_of(self, pid: str, job_type: str) -> list[JobView]:
        """The jobs of one type for a data set."""
        wanted = {"where": {"type": job_type, "jobParams.datasetList.pid": pid}}
        found = self._get("/api/v4/jobs", f"reading the jobs of {pid}", {"filter": json.dumps(wanted)})
        return [_job_view(job) for job in found]

    def _get(self, path: str, what: str, parameters: Mapping[str, str] | None = None) -> Any:
        def read() -> httpx.Response:
            return send(self._http, "GET", path, what=what, expect=(200,), params=parameters)

        answer = with_patience(read)
        if not answer.content:
            raise ServerRefusedError(f"{what}: SciCat has nothing. Log in again; the session may have expired.")
        return answer.json()


def _job_view(job: Mapping[str, Any]) -> JobView:
    return JobView(
        id=str(job.get("id") or job.get("_id")),
        type=str(job.get("type") or ""),
        status=str(job.get("statusCode") or _SUBMITTED),
        message=str(job.get("statusMessage") or ""),
        result=job.get("jobResultObject") or {},
    )
