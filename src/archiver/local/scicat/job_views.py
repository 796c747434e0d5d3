"""A job in the words of API v3, and v3's words in those of the stored job (which is the v4 view)."""

from __future__ import annotations

from typing import Any

from archiver.local.scicat.values import Document

_V3_NAMES = {
    "emailJobInitiator": "contactEmail",
    "creationTime": "createdAt",
    "jobStatusMessage": "statusCode",
    "datasetList": "jobParams.datasetList",
    "executionTime": "jobParams.executionTime",
}


def view_v3(job: Document) -> Document:
    """The whole job as v3 shows it."""
    params = dict(job["jobParams"])
    datasets = params.pop("datasetList", [])
    executed = params.pop("executionTime", None)
    if job.get("ownerUser") is not None:
        params["username"] = job["ownerUser"]
    view: Document = {
        "_id": job["id"],
        "id": job["id"],
        "emailJobInitiator": job.get("contactEmail"),
        "type": job["type"],
        "creationTime": job["createdAt"],
        "jobParams": params,
        "jobStatusMessage": job["statusCode"],
        "datasetList": datasets,
        "jobResultObject": job["jobResultObject"],
    }
    if executed is not None:
        view["executionTime"] = executed
    return view


def hook_view_v3(job: Document) -> Document:
    """What the template helper ``job_v3`` makes of a job: its jobParams still hold the list of data sets."""
    view: Document = {
        "id": job["id"],
        "emailJobInitiator": job.get("contactEmail"),
        "type": job["type"],
        "creationTime": job["createdAt"],
        "jobParams": {**job["jobParams"], "username": job.get("ownerUser")},
        "jobStatusMessage": job["statusCode"],
        "datasetList": job["jobParams"].get("datasetList", []),
    }
    return view


def stored_name(v3_name: str) -> str:
    """The stored field that a (dotted) v3 name stands for."""
    head, dot, rest = v3_name.partition(".")
    if v3_name == "jobParams.username":
        return "ownerUser"
    return f"{_V3_NAMES.get(head, head)}{dot}{rest}"


def params_of_v3(body: Document) -> dict[str, Any]:
    """The jobParams of a v3 create request: the list of data sets moved in, one given inside dropped."""
    params = dict(body.get("jobParams") or {})
    params.pop("datasetList", None)
    if "datasetList" in body:
        params["datasetList"] = body["datasetList"]
    if body.get("executionTime") is not None:
        params["executionTime"] = body["executionTime"]
    return params
