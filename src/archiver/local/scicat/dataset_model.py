"""The data set as it is stored: which fields a request may hold, what is filled in, how v3 shows it."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import datetime
from typing import Any

from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.dto import Field, Spec, optional
from archiver.local.scicat.values import Document, iso, normal_date, now

_COMMON: Spec = {
    "pid": Field("text"),
    "type": Field("string", required=True),
    "ownerGroup": Field("string", required=True),
    "contactEmail": Field("emails", required=True),
    "sourceFolder": Field("text", required=True),
    "creationTime": Field("date", required=True),
    "ownerEmail": Field("email"),
    "orcidOfOwner": Field("string"),
    "accessGroups": Field("strings"),
    "instrumentGroup": Field("string"),
    "sharedWith": Field("strings"),
    "keywords": Field("strings"),
    "description": Field("string"),
    "license": Field("string"),
    "validationStatus": Field("string"),
    "comment": Field("string"),
    "dataQualityMetrics": Field("number"),
    "startTime": Field("date"),
    "endTime": Field("date"),
    "dataFormat": Field("string"),
    "runNumber": Field("string"),
    "sourceFolderHost": Field("address"),
    "techniques": Field("objects"),
    "relationships": Field("objects"),
    "scientificMetadata": Field("object"),
    "scientificMetadataSchema": Field("address"),
    "inputDatasets": Field("strings"),
    "usedSoftware": Field("strings"),
    "jobParameters": Field("object"),
    "jobLogData": Field("string"),
    "size": Field("integer"),
    "packedSize": Field("integer"),
    "numberOfFiles": Field("integer"),
    "numberOfFilesArchived": Field("integer"),
    "isPublished": Field("boolean"),
    "datasetlifecycle": Field("object"),
    "classification": Field("string"),
}

_PLURALS = {
    "principalInvestigator": "principalInvestigators",
    "proposalId": "proposalIds",
    "sampleId": "sampleIds",
    "instrumentId": "instrumentIds",
}

V4_CREATE: Spec = {
    **_COMMON,
    "owner": Field("string"),
    "datasetName": Field("text", required=True),
    "creationLocation": Field("string"),
    **{plural: Field("strings") for plural in _PLURALS.values()},
}

_V3_COMMON: Spec = {
    **_COMMON,
    "owner": Field("string", required=True),
    "datasetName": Field("string"),
    "creationLocation": Field("string"),
    **{singular: Field("string") for singular in _PLURALS},
}

V3_RAW: Spec = {
    **_V3_COMMON,
    "creationLocation": Field("string", required=True),
    "principalInvestigator": Field("string", required=True),
}

V3_DERIVED: Spec = {
    **_V3_COMMON,
    "investigator": Field("string", required=True),
    "inputDatasets": Field("strings", required=True),
    "usedSoftware": Field("strings", required=True),
}

_EMPTY_LISTS = (
    "accessGroups",
    "sharedWith",
    "keywords",
    "techniques",
    "relationships",
    "inputDatasets",
    "usedSoftware",
    *_PLURALS.values(),
)
_DATES = ("creationTime", "startTime", "endTime")


def create_spec(version: int, body: Any) -> Spec:
    """The fields of a create request: v3 has its own for raw and derived data sets."""
    kind = body.get("type") if isinstance(body, dict) else None
    if version == 3 and kind == "raw":
        return V3_RAW
    if version == 3 and kind == "derived":
        return V3_DERIVED
    return V4_CREATE


def patch_spec(version: int, stored: Document) -> Spec:
    """The fields of a PATCH: those of the create request, none required, without the pid."""
    spec = dict(optional(create_spec(version, stored)))
    del spec["pid"]
    return spec


def from_body(body: Document, *, fill_plurals: bool) -> Document:
    """A request's fields under their stored names and in their stored form.

    ``fill_plurals`` does what a v3 create does: a singular that is not given leaves a list holding null.
    """
    result = {name: value for name, value in body.items() if name not in _PLURALS and name != "investigator"}
    if "investigator" in body:
        result["principalInvestigators"] = [body["investigator"]]
    for singular, plural in _PLURALS.items():
        if singular in body or (fill_plurals and plural not in result):
            result[plural] = [body.get(singular)]
    for name in _DATES:
        if name in result:
            result[name] = normal_date(result[name])
    if isinstance(result.get("sourceFolder"), str):
        result["sourceFolder"] = _without_slash(result["sourceFolder"])
    if isinstance(result.get("scientificMetadata"), dict):
        result["scientificMetadata"] = _keys(result["scientificMetadata"], lambda key: key.replace(".", "%2E"))
    return result


def new_dataset(fields: Document, pid: str, lifecycle: Document, username: str, version: int) -> Document:
    """The document of a new data set, everything filled in that the request left out."""
    moment = iso(now())
    folder = fields["sourceFolder"]
    given = {name: value for name, value in fields.items() if value is not None}
    return {
        "createdBy": username,
        "updatedBy": username,
        "isPublished": False,
        "size": 0,
        "packedSize": 0,
        "numberOfFiles": 0,
        "numberOfFilesArchived": 0,
        "datasetName": "/".join([part for part in folder.split("/") if part][-2:]),
        **{name: [] for name in _EMPTY_LISTS},
        **given,
        "pid": pid,
        "_id": pid,
        "datasetlifecycle": lifecycle,
        "classification": "IN=medium,AV=low,CO=low",
        "version": str(version),
        "createdAt": moment,
        "updatedAt": moment,
        "__v": 0,
    }


def view_v3(dataset: Document) -> Document:
    """The data set as v3 shows it: first members of the lists as fields of their own, plain metadata keys."""
    view = dict(dataset)
    for singular, plural in _PLURALS.items():
        values = dataset.get(plural)
        if values:
            view[singular] = values[0]
    if isinstance(view.get("scientificMetadata"), dict):
        view["scientificMetadata"] = _keys(view["scientificMetadata"], lambda key: key.replace("%2E", "."))
    return view


LIFECYCLE: Spec = {
    "archivable": Field("boolean"),
    "retrievable": Field("boolean"),
    "publishable": Field("boolean"),
    "dateOfDiskPurging": Field("date"),
    "archiveRetentionTime": Field("date"),
    "dateOfPublishing": Field("date"),
    "publishedOn": Field("date"),
    "isOnCentralDisk": Field("boolean"),
    "archiveStatusMessage": Field("string"),
    "retrieveStatusMessage": Field("string"),
    "archiveReturnMessage": Field("anything"),
    "retrieveReturnMessage": Field("anything"),
    "exportedTo": Field("string"),
    "retrieveIntegrityCheck": Field("boolean"),
    "storageLocation": Field("string"),
}


def lifecycle_defaults(config: ScicatConfig, started: datetime) -> Document:
    """A lifecycle as it is before anything happened; ``started`` is when the process began."""
    return {
        "archivable": True,
        "retrievable": False,
        "publishable": False,
        "dateOfDiskPurging": iso(started),
        "archiveRetentionTime": iso(_shifted(config.retention_shift_years)),
        "dateOfPublishing": iso(_shifted(config.publication_shift_years)),
        "publishedOn": iso(started),
        "isOnCentralDisk": True,
        "archiveStatusMessage": "datasetCreated",
        "retrieveStatusMessage": "",
        "retrieveIntegrityCheck": False,
    }


def whole_lifecycle(given: Document, defaults: Document, key: str) -> Document:
    """A lifecycle made anew from ``given``: omitted fields at their default, unknown ones dropped."""
    kept = {name: given[name] for name in LIFECYCLE if given.get(name) is not None}
    return tidy_lifecycle({**defaults, **kept, "_id": key})


def tidy_lifecycle(lifecycle: Document) -> Document:
    """Dates in their stored form; empty objects are not stored at all."""
    return {
        name: normal_date(value) if LIFECYCLE.get(name) == Field("date") else value
        for name, value in lifecycle.items()
        if value != {}
    }


def _shifted(years: int) -> datetime:
    # The backend puts the weekday (Sunday = 0) where the day of the month belongs; day 0 is the last of the
    # month before.
    today = now()
    year, month, day = today.year + years, today.month, today.isoweekday() % 7
    if day == 0:
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
        day = calendar.monthrange(year, month)[1]
    return today.replace(year=year, month=month, day=day, hour=0, minute=0, second=0, microsecond=0)


def _without_slash(folder: str) -> str:
    return folder[:-1] if len(folder) > 1 and folder.endswith("/") else folder


def _keys(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {change(key): _keys(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_keys(one, change) for one in value]
    return value
