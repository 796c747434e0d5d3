"""Jobs, in the two versions of SciCat's API that are in use."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from archiver.workflow.catalogue.connection import Connection
from archiver.workflow.catalogue.documents import read_job
from archiver.workflow.catalogue.models import Job, JsonObject
from archiver.workflow.catalogue.responses import expect_list, expect_object, unknown_job

_RECENT = 1000


class Jobs(ABC):
    """Jobs as one version of the API shows them. See `Catalogue` for what the methods do and raise."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        """Jobs over `connection`, under `prefix`."""
        self._connection = connection
        self._prefix = prefix

    def read(self, job_id: str) -> Job:
        """The job `job_id`."""
        return read_job(self._document(job_id))

    def update(self, job_id: str, status: str, message: str, result: Mapping[str, Any] | None) -> None:
        """Sets the state; found set although the answer was an error, it is set.

        SciCat's own actions on an update can fail after it was saved, and their failure is the answer.
        """
        purpose = f"set the job {job_id} to {status}"
        body = self._state(status, message)
        if result is not None:
            body["jobResultObject"] = dict(result)

        def update() -> bool:
            self._connection.call("PATCH", self._path(job_id), purpose, body=body, once=True)
            return True

        def updated() -> bool | None:
            found = self._document(job_id)
            return all(found.get(name) == value for name, value in body.items()) or None

        self._connection.write(update, updated, purpose)

    def create(
        self,
        job_type: str,
        pid: str,
        owner_user: str,
        owner_group: str,
        contact_email: str,
        username: str,
        purpose: str,
    ) -> str:
        """Creates a job, without repeating the call, and gives its id."""
        body = self._new_job(job_type, pid, owner_user, owner_group, contact_email, username)
        answer = self._connection.call("POST", f"{self._prefix}/jobs", purpose, body=body, once=True)
        return read_job(expect_object(answer, purpose)).id

    @abstractmethod
    def in_state(self, types: Sequence[str], statuses: Sequence[str]) -> list[Job]:
        """Jobs of these types in one of these states."""

    @abstractmethod
    def of_dataset(self, job_type: str, pid: str) -> list[Job]:
        """Jobs of that type that name the data set; in v3 only among the newest thousand."""

    @abstractmethod
    def _state(self, status: str, message: str) -> JsonObject:
        """The body of an update."""

    @abstractmethod
    def _new_job(
        self,
        job_type: str,
        pid: str,
        owner_user: str,
        owner_group: str,
        contact_email: str,
        username: str,
    ) -> JsonObject:
        """The body that creates a job."""

    def _list(self, path: str, query: Mapping[str, Any], purpose: str) -> list[Job]:
        parameters = {name: json.dumps(value) for name, value in query.items()}
        answer = self._connection.call("GET", f"{self._prefix}/{path}", purpose, query=parameters)
        return [read_job(expect_object(item, purpose)) for item in expect_list(answer or [], purpose)]

    def _document(self, job_id: str) -> JsonObject:
        purpose = f"show the job {job_id}"
        with unknown_job(job_id):
            return expect_object(self._connection.call("GET", self._path(job_id), purpose), purpose)

    def _path(self, job_id: str) -> str:
        return f"{self._prefix}/jobs/{quote(job_id, safe='')}"


class JobsV4(Jobs):
    """Jobs of API v4."""

    def in_state(self, types: Sequence[str], statuses: Sequence[str]) -> list[Job]:
        """All of them: v4 has no default limit, and its paging skips rows."""
        where = {"type": {"$in": list(types)}, "statusCode": {"$in": list(statuses)}}
        return self._list("jobs", {"filter": {"where": where}}, "list jobs by their state")

    def of_dataset(self, job_type: str, pid: str) -> list[Job]:
        """All of them."""
        where = {"type": job_type, "jobParams.datasetList.pid": pid}
        return self._list("jobs", {"filter": {"where": where}}, f"list the jobs of {pid}")

    def _state(self, status: str, message: str) -> JsonObject:
        return {"statusCode": status, "statusMessage": message}

    def _new_job(
        self,
        job_type: str,
        pid: str,
        owner_user: str,
        owner_group: str,
        contact_email: str,
        username: str,
    ) -> JsonObject:
        parameters = {"username": username, "datasetList": [{"pid": pid, "files": []}]}
        body: JsonObject = {"type": job_type, "jobParams": parameters}
        optional = {"ownerUser": owner_user, "ownerGroup": owner_group, "contactEmail": contact_email}
        return body | {name: value for name, value in optional.items() if value}


class JobsV3(Jobs):
    """Jobs of API v3."""

    def in_state(self, types: Sequence[str], statuses: Sequence[str]) -> list[Job]:
        """Those among the newest thousand of each type."""
        jobs = [job for job_type in types for job in self._recent(job_type)]
        return [job for job in jobs if job.status in statuses]

    def of_dataset(self, job_type: str, pid: str) -> list[Job]:
        """Those among the newest thousand of the type."""
        return [job for job in self._recent(job_type) if any(item.pid == pid for item in job.datasets)]

    def _recent(self, job_type: str) -> list[Job]:
        limits = {"limit": _RECENT, "order": "creationTime:desc"}
        query = {"fields": {"type": job_type}, "limits": limits}
        return self._list("jobs/fullquery", query, f"list jobs of type {job_type}")

    def _state(self, status: str, message: str) -> JsonObject:
        return {"jobStatusMessage": status}

    def _new_job(
        self,
        job_type: str,
        pid: str,
        owner_user: str,
        owner_group: str,
        contact_email: str,
        username: str,
    ) -> JsonObject:
        body: JsonObject = {
            "type": job_type,
            "datasetList": [{"pid": pid, "files": []}],
            "jobParams": {"username": owner_user or username, "ownerGroup": owner_group},
        }
        return body | ({"emailJobInitiator": contact_email} if contact_email else {})
