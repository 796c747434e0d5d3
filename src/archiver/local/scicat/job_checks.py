"""What a request for a job must pass, in the order the real backend checks it, with its lookup limits and bugs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from archiver.local.scicat.config import Action, JobType, ValidateAction
from archiver.local.scicat.context import Call
from archiver.local.scicat.errors import hand_made, refused
from archiver.local.scicat.rights import Caller
from archiver.local.scicat.schemas import find, fits
from archiver.local.scicat.values import Document

# The backend looks data sets and their blocks up with a list of the default length.
LOOKUP_LIMIT = 100


@dataclass(frozen=True)
class JobRequest:
    """A request for a job in the words of the stored job.

    ``from_v3``: the owner was derived, not given, and its absence is no fault of the caller's.
    """

    type: str
    params: Document
    owner_user: str | None
    owner_group: str | None
    contact_email: str | None
    from_v3: bool = False
    status: str | None = None

    @property
    def pids(self) -> list[str]:
        """The pids listed, in their order, repetitions included."""
        return [item["pid"] for item in self.params.get("datasetList") or []]

    def as_context(self) -> Document:
        """The request as templates and ``validate`` actions see it."""
        return {
            "type": self.type,
            "ownerUser": self.owner_user,
            "ownerGroup": self.owner_group,
            "contactEmail": self.contact_email,
            "jobParams": self.params,
        }


def check_create(call: Call, request: JobRequest) -> tuple[JobType, JobRequest]:
    """The job's type and the request with its owner filled in; raises the 400s and the 403."""
    job_type = call.catalogue.config.job_type(request.type)
    if job_type is None:
        raise hand_made(400, f"There is no job type {request.type}")
    if "datasetList" in request.params:
        _check_dataset_list(request.params["datasetList"])
        _check_datasets_exist(call, request.pids)
        _check_files_exist(call, request.params["datasetList"])
    auth = job_type.create.auth
    request = _with_owner(call, request)
    if auth.startswith("#dataset") and "datasetList" not in request.params:
        raise hand_made(400, "This type of job needs jobParams.datasetList")
    if not _may_create(call, auth, request.pids):
        raise refused(403, "You may not create this job")
    _validate(job_type.create.actions, request.as_context(), datasets_of(call, request.pids))
    return job_type, request


def check_update(call: Call, job: Document, body: Document) -> JobType | None:
    """The job's type; raises the 403, and the 400 of its ``validate`` actions."""
    job_type = call.catalogue.config.job_type(job["type"])
    if not may_update(call, job, job_type):
        raise refused(403, "You may not change this job")
    if job_type is not None:
        _validate(job_type.update.actions, body, None)
    return job_type


def may_update(call: Call, job: Document, job_type: JobType | None) -> bool:
    """Whether the caller may change this job."""
    if call.rights.job_role in {"admin", "update"}:
        return True
    if job_type is None:
        return False
    auth = job_type.update.auth
    if auth == "#all":
        return True
    caller = call.caller
    if caller is None or auth == "#jobAdmin":
        return False
    if auth == "#jobOwnerUser":
        return job.get("ownerUser") == caller.username
    if auth == "#jobOwnerGroup":
        return call.rights.owns(job)
    return _is_named(caller, auth)


def anonymous_may_create(call: Call) -> bool:
    """Whether some type of job is open to everybody."""
    return any(job.create.auth in {"#all", "#datasetPublic"} for job in call.catalogue.config.jobs)


def datasets_of(call: Call, pids: Iterable[str]) -> list[Document]:
    """The data sets with these pids in the order of the database, at most 100."""
    wanted = set(pids)
    if not wanted:
        return []
    return [one for one in call.store.every("datasets") if one["pid"] in wanted][:LOOKUP_LIMIT]


def derived_group(call: Call, request: JobRequest) -> str | None:
    """The ownerGroup of a job asked for in the words of v3, which have none."""
    given = request.params.get("ownerGroup")
    if isinstance(given, str):
        return given
    job_type = call.catalogue.config.job_type(request.type)
    auth = "" if job_type is None else job_type.create.auth
    datasets = datasets_of(call, _well_formed_pids(request.params.get("datasetList")))
    if auth == "#datasetPublic" or not datasets:
        return None
    if auth == "#datasetAccess":
        groups = [] if call.caller is None else list(call.caller.groups)
        return next((group for group in groups if all(_admits(one, group) for one in datasets)), None)
    return str(datasets[0]["ownerGroup"])


def _check_dataset_list(listed: Any) -> None:
    if not isinstance(listed, list) or not listed:
        raise hand_made(400, "datasetList must be an array with at least one data set")
    for item in listed:
        if not isinstance(item, dict) or set(item) != {"pid", "files"}:
            raise hand_made(400, "Each entry of datasetList must have pid and files, nothing else")
        if not isinstance(item["pid"], str) or not isinstance(item["files"], list):
            raise hand_made(400, "In datasetList, pid must be a string and files an array")


def _check_datasets_exist(call: Call, pids: list[str]) -> None:
    known = {one["pid"] for one in datasets_of(call, pids)}
    missing = [pid for pid in pids if pid not in known]
    if missing:
        raise hand_made(400, f"These data sets do not exist: {', '.join(missing)}")


def _check_files_exist(call: Call, listed: list[Document]) -> None:
    asked = [item for item in listed if item["files"]]
    if not asked:
        return
    wanted = {item["pid"] for item in asked}
    blocks = [one for one in call.store.blocks("origdatablocks") if one.dataset_id in wanted][:LOOKUP_LIMIT]
    # The backend looks every data set's files up in the list of one of them.
    source = blocks[0].dataset_id if blocks else None
    known = {
        entry["path"]
        for block in blocks
        if block.dataset_id == source
        for entry in json.loads(call.store.file_list(block.id))
    }
    missing = [
        {
            "pid": item["pid"],
            "nonExistFiles": [name for name in item["files"] if not isinstance(name, str) or name not in known],
        }
        for item in asked
    ]
    missing = [one for one in missing if one["nonExistFiles"]]
    if missing:
        raise hand_made(400, "Some of the files do not exist", missing)


def _with_owner(call: Call, request: JobRequest) -> JobRequest:
    caller = call.caller
    if call.rights.job_role in {"admin", "create"}:
        if not (request.owner_user or request.owner_group or request.contact_email):
            raise hand_made(400, "Give ownerUser, ownerGroup or contactEmail")
        known = request.owner_user is None or call.catalogue.accounts.named(request.owner_user) is not None
        return request if known else replace(request, owner_user=call.username)
    if caller is None:
        return request
    if request.owner_user not in {None, caller.username}:
        raise hand_made(400, "ownerUser must be yourself")
    if request.owner_group is None and not request.from_v3:
        raise hand_made(400, "ownerGroup must be given")
    if request.owner_group is not None and request.owner_group not in caller.groups:
        raise hand_made(400, "ownerGroup must be one of your groups")
    return replace(
        request,
        owner_user=caller.username,
        contact_email=request.contact_email or caller.email,
    )


def _may_create(call: Call, auth: str, pids: list[str]) -> bool:
    if call.rights.job_role in {"admin", "create"} or auth == "#all":
        return True
    if auth.startswith("#dataset"):
        # Compared by number: a pid that is listed twice is found once and fails.
        return sum(_fits_auth(call, auth, one) for one in datasets_of(call, pids)) == len(pids)
    if call.caller is None or auth == "#jobAdmin":
        return False
    return auth == "#authenticated" or _is_named(call.caller, auth)


def _fits_auth(call: Call, auth: str, dataset: Document) -> bool:
    if auth == "#datasetPublic":
        return dataset.get("isPublished") is True
    return call.rights.owns(dataset) if auth == "#datasetOwner" else call.rights.shares(dataset)


def _is_named(caller: Caller, auth: str) -> bool:
    if auth.startswith("@"):
        return auth[1:] in caller.groups
    return auth == caller.username


def _validate(actions: Iterable[Action], request: Document, datasets: list[Document] | None) -> None:
    for action in actions:
        if not isinstance(action, ValidateAction):
            continue
        for path, schema in action.request.items():
            _check_value(request, path, schema, "the request")
        for path, schema in action.datasets.items() if datasets is not None else ():
            for dataset in datasets or ():
                _check_value(dataset, path, schema, f"data set {dataset['pid']}")


def _check_value(document: Document, path: str, schema: Document, what: str) -> None:
    values = find(document, path)
    if not values or not all(fits(value, schema) for value in values):
        raise hand_made(400, f"{path} of {what} is not as this type of job needs it")


def _well_formed_pids(listed: Any) -> list[str]:
    if not isinstance(listed, list):
        return []
    return [item["pid"] for item in listed if isinstance(item, dict) and isinstance(item.get("pid"), str)]


def _admits(dataset: Document, group: str) -> bool:
    return group == dataset["ownerGroup"] or group in (dataset.get("accessGroups") or ())
