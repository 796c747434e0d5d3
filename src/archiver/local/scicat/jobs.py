"""Jobs in API v4 and in the words of v3: saved first, then their ``url`` actions are called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archiver.local.scicat.context import BOTH, V3, V4, Call, Reply, Route
from archiver.local.scicat.dto import Field, Spec, check, is_email
from archiver.local.scicat.errors import hand_made, invalid, refused
from archiver.local.scicat.job_checks import (
    JobRequest,
    anonymous_may_create,
    check_create,
    check_update,
    datasets_of,
    derived_group,
)
from archiver.local.scicat.job_views import params_of_v3, stored_name, view_v3
from archiver.local.scicat.merging import merge
from archiver.local.scicat.queries import Query, job_query, json_object, project, select, whole_number
from archiver.local.scicat.values import Document, iso, new_uuid, now

_CREATE: Spec = {
    "type": Field("string", required=True),
    "jobParams": Field("object", required=True),
    "ownerUser": Field("string"),
    "ownerGroup": Field("string"),
    "contactEmail": Field("email"),
}
_UPDATE: Spec = {
    "statusCode": Field("string", required=True),
    "statusMessage": Field("string", required=True),
    "jobResultObject": Field("object"),
}
_V3_CREATE: Spec = {
    "type": Field("string", required=True),
    "jobParams": Field("object"),
    "emailJobInitiator": Field("string"),
    "jobStatusMessage": Field("string"),
    "datasetList": Field("anything"),
    "executionTime": Field("anything"),
}
_V3_UPDATE: Spec = {
    "jobStatusMessage": Field("string"),
    "jobResultObject": Field("object"),
    "executionTime": Field("anything"),
}


async def create(call: Call) -> Reply:
    """A new job, 201. When its URL action fails, the caller sees that error and the job stays."""
    call.allow(call.caller is not None or anonymous_may_create(call))
    job, request = await call.catalogue.transact(_create, call)
    job_type = call.catalogue.config.job_type(job["type"])
    if job_type is not None:
        context = {"job": job, "request": request.as_context()}
        await call.catalogue.hooks.perform(job_type.create.actions, context)
    return Reply.of(_view(call, job), 201)


async def update(call: Call) -> Reply:
    """Change a job's status. The change stays even when an URL action fails afterwards."""
    job = await call.catalogue.transact(_update, call)
    job_type = call.catalogue.config.job_type(job["type"])
    if job_type is not None:
        await call.catalogue.hooks.perform(job_type.update.actions, {"job": job, "request": call.body})
    return Reply.of(_view(call, job))


def read(call: Call) -> Reply:
    """One job; 400 for an unknown id, 403."""
    call.signed_in()
    job = _known(call)
    if not call.rights.reads_job(job):
        raise refused(403, "You may not read this job")
    query = job_query(call.query.get("filter"))
    return Reply.of(project(_with_datasets(call, _view(call, job), job, query), query.fields))


def list_v4(call: Call) -> Reply:
    """The jobs a filter selects; all of them without limits. The limit is applied before the skip."""
    call.signed_in()
    query = job_query(call.query.get("filter"))
    jobs = select(_visible(call), query, _plain, limit_first=True)
    return Reply.of([project(_with_datasets(call, job, job, query), query.fields) for job in jobs])


def list_v3(call: Call) -> Reply:
    """All jobs the caller may read in v3's words; every ``where`` is refused."""
    call.signed_in()
    asked = json_object(call.query["filter"], "filter") if call.query.get("filter") else {}
    if asked.get("where"):
        raise refused(400, "This list takes no where")
    return Reply.of([view_v3(job) for job in _visible(call)])


def full_query(call: Call) -> Reply:
    """The jobs whose fields equal the given ones; v3's names and ``order`` work in v3."""
    call.signed_in()
    if call.version == 4 and call.query.get("filter"):
        return list_v4(call)
    fields = json_object(call.query["fields"], "fields") if call.query.get("fields") else {}
    limits = json_object(call.query["limits"], "limits") if call.query.get("limits") else {}
    rename = stored_name if call.version == 3 else str
    parts = [part.partition(":") for part in str(limits.get("order") or "").split(",") if part]
    query = Query(
        where={rename(name): value for name, value in fields.items()},
        order=tuple((rename(path), way.lower() == "desc") for path, _, way in parts),
        limit=whole_number(limits.get("limit"), "limit"),
        skip=whole_number(limits.get("skip"), "skip") or 0,
    )
    return Reply.of([_view(call, job) for job in select(_visible(call), query, _plain, limit_first=True)])


def delete(call: Call) -> Reply:
    """Remove a job; 400 for an unknown id."""
    call.allow(call.rights.deletes_jobs)
    job = _known(call)
    call.store.delete("jobs", job["id"])
    return Reply.of(_view(call, job))


def _create(call: Call) -> tuple[Document, JobRequest]:
    request = _request_v3(call) if call.version == 3 else _request_v4(call)
    _, request = check_create(call, request)
    config = call.catalogue.config
    key, moment = new_uuid(), iso(now())
    job: Document = {
        "createdBy": call.username,
        "updatedBy": call.username,
        "createdAt": moment,
        "updatedAt": moment,
        "accessGroups": [],
        "isPublished": False,
        "_id": key,
        "id": key,
        "type": request.type,
        "statusCode": request.status or config.default_status_code,
        "statusMessage": request.status or config.default_status_message,
        "jobParams": request.params,
        "configVersion": config.config_version,
        "jobResultObject": {},
        "__v": 0,
    }
    owner = {
        "ownerUser": request.owner_user,
        "ownerGroup": request.owner_group,
        "contactEmail": request.contact_email,
    }
    job.update({name: value for name, value in owner.items() if value is not None})
    call.store.insert("jobs", key, job)
    return job, request


def _request_v4(call: Call) -> JobRequest:
    body = check(call.body, _CREATE)
    return JobRequest(
        type=body["type"],
        params=body["jobParams"],
        owner_user=body.get("ownerUser"),
        owner_group=body.get("ownerGroup"),
        contact_email=body.get("contactEmail"),
    )


def _request_v3(call: Call) -> JobRequest:
    body = check(_known_only(call.body, _V3_CREATE), _V3_CREATE)
    email = body.get("emailJobInitiator")
    if email is not None and not is_email(email):
        raise invalid(["contactEmail must be an email"])
    named = (body.get("jobParams") or {}).get("username")
    owner = call.caller
    if isinstance(named, str):
        owner = call.catalogue.accounts.named(named) or owner
    request = JobRequest(
        type=body["type"],
        params=params_of_v3(body),
        owner_user=None if owner is None else owner.username,
        owner_group=None,
        contact_email=email or (None if call.caller is None else call.caller.email),
        from_v3=True,
        status=body.get("jobStatusMessage"),
    )
    return replace(request, owner_group=derived_group(call, request))


def _update(call: Call) -> Document:
    call.allow(call.caller is not None or _anonymous_may_update(call))
    change = _change_v3(call) if call.version == 3 else check(call.body, _UPDATE)
    job = _known(call)
    check_update(call, job, change)
    changed = dict(job)
    changed.update({name: change[name] for name in ("statusCode", "statusMessage") if name in change})
    given = change.get("jobResultObject")
    if given is not None:
        result = merge(job["jobResultObject"], given) if call.merge_patch else dict(given)
        if "executionTime" in result:
            changed["jobParams"] = {**job["jobParams"], "executionTime": result.pop("executionTime")}
        changed["jobResultObject"] = result
    changed |= {"updatedAt": iso(now()), "updatedBy": call.username}
    call.store.replace("jobs", job["id"], changed)
    return changed


def _change_v3(call: Call) -> Document:
    body = check(_known_only(call.body, _V3_UPDATE), _V3_UPDATE)
    change: Document = {}
    status = body.get("jobStatusMessage")
    if status is not None:
        change |= {"statusCode": status, "statusMessage": status}
    result = body.get("jobResultObject")
    if body.get("executionTime") is not None:
        # This is why a PATCH with nothing but an execution time empties the result.
        result = {**(result or {}), "executionTime": body["executionTime"]}
    if result is not None:
        change["jobResultObject"] = result
    return change


def _known_only(body: Any, spec: Spec) -> Document:
    return {name: value for name, value in body.items() if name in spec} if isinstance(body, dict) else {}


def _anonymous_may_update(call: Call) -> bool:
    return any(job.update.auth == "#all" for job in call.catalogue.config.jobs)


def _known(call: Call) -> Document:
    job = call.store.get("jobs", call.params["id"])
    if job is None:
        raise hand_made(400, "There is no job with this id")
    return job


def _visible(call: Call) -> list[Document]:
    return [job for job in call.store.every("jobs") if call.rights.reads_job(job)]


def _with_datasets(call: Call, view: Document, job: Document, query: Query) -> Document:
    if not query.include:
        return view
    pids = [item["pid"] for item in job["jobParams"].get("datasetList") or []]
    return {**view, "datasets": datasets_of(call, pids)}


def _plain(job: Document) -> Document:
    return job


def _view(call: Call, job: Document) -> Document:
    return view_v3(job) if call.version == 3 else job


ROUTES = [
    Route(BOTH, "POST", "/jobs", create),
    Route(V4, "GET", "/jobs", list_v4),
    Route(V3, "GET", "/jobs", list_v3),
    Route(BOTH, "GET", "/jobs/fullquery", full_query),
    Route(BOTH, "GET", "/jobs/{id}", read),
    Route(BOTH, "PATCH", "/jobs/{id}", update),
    Route(BOTH, "DELETE", "/jobs/{id}", delete),
]
