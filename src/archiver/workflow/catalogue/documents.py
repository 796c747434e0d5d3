"""SciCat's JSON made into models, and models into SciCat's JSON. Pure."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from archiver.workflow.catalogue.models import (
    Datablock,
    DatablockFile,
    Dataset,
    Job,
    JobDataset,
    JsonObject,
    Lifecycle,
    NewDataset,
    OrigFile,
)
from archiver.workflow.errors import CatalogueRefusedError


class BadDocumentError(CatalogueRefusedError):
    """A record in SciCat lacks what every such record must have."""


def _text(document: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that holds a text, else an empty one."""
    for name in names:
        if isinstance(value := document.get(name), str) and value:
            return value
    return ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _count(value: Any) -> int:
    """A whole number; 0 where there is none, for totals are hints."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _required(document: Mapping[str, Any], name: str, kind: type | tuple[type, ...], what: str) -> Any:
    value = document.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadDocumentError(f"{what} in SciCat has no proper {name!r} ({value!r}). Correct the record in SciCat.")
    return value


def read_lifecycle(document: JsonObject) -> Lifecycle:
    """A `datasetlifecycle`; absent fields as false and empty."""
    return Lifecycle(
        archivable=document.get("archivable") is True,
        retrievable=document.get("retrievable") is True,
        archive_status=_text(document, "archiveStatusMessage"),
        retrieve_status=_text(document, "retrieveStatusMessage"),
        archive_return=document.get("archiveReturnMessage") or None,
        retrieve_return=document.get("retrieveReturnMessage") or None,
        storage_location=_text(document, "storageLocation"),
        document=document,
    )


def read_dataset(document: JsonObject) -> Dataset:
    """A data set as the v3 and v4 API show it.

    Raises:
        BadDocumentError: it has no pid.
    """
    lifecycle = document.get("datasetlifecycle")
    return Dataset(
        pid=_required(document, "pid", str, "A data set"),
        name=_text(document, "datasetName"),
        owner=_text(document, "owner"),
        owner_group=_text(document, "ownerGroup"),
        access_groups=_texts(document.get("accessGroups")),
        contact_email=_text(document, "contactEmail"),
        source_folder=_text(document, "sourceFolder"),
        number_of_files=_count(document.get("numberOfFiles")),
        size=_count(document.get("size")),
        packed_size=_count(document.get("packedSize")),
        lifecycle=read_lifecycle(lifecycle if isinstance(lifecycle, dict) else {}),
        document=document,
    )


def compact_entry(document: JsonObject) -> Any:
    """A hook for reading JSON: an entry of a `dataFileList` at once as an `OrigFile`, anything else as it is.

    It keeps 400,000 entries from ever lying in memory as dictionaries. `chk_alg` is not in the entry but in
    the block around it, and is None here.
    """
    path, size = document.get("path"), document.get("size")
    if not isinstance(path, str) or not isinstance(size, int | float) or "time" not in document:
        return document
    # The same few users, modes and kinds come again in every entry.
    return OrigFile(
        path=path,
        size=int(size),
        time=_text(document, "time"),
        perm=sys.intern(_text(document, "perm")),
        chk=_text(document, "chk") or None,
        chk_alg=None,
        uid=sys.intern(_text(document, "uid")),
        gid=sys.intern(_text(document, "gid")),
        type=sys.intern(_text(document, "type")),
    )


def _entries(block: JsonObject, what: str) -> list[OrigFile]:
    entries: list[OrigFile] = _required(block, "dataFileList", list, what)
    for entry in entries:
        if not isinstance(entry, OrigFile):
            raise BadDocumentError(
                f"{what} in SciCat lists a file without path, size or time: {entry!r:.200}. "
                "Correct the record in SciCat."
            )
    return entries


def write_new_dataset(dataset: NewDataset) -> JsonObject:
    """The body of API v3 that creates `dataset`."""
    return {
        "type": "raw",
        "pid": dataset.pid,
        "datasetName": dataset.name,
        "owner": dataset.owner,
        "ownerGroup": dataset.owner_group,
        "principalInvestigator": dataset.owner,
        "contactEmail": dataset.contact_email,
        "sourceFolder": dataset.source_folder,
        "creationTime": dataset.created_at,
        "creationLocation": "archiver",
        # SciCat takes a new data set for archivable unless told otherwise.
        "datasetlifecycle": {"archivable": False, "archiveStatusMessage": "filesNotYetAvailable"},
    }


def write_orig_files(pid: str, files: Sequence[OrigFile]) -> JsonObject:
    """The body that lists `files` of data set `pid`, whose checksums are all of the first one's algorithm."""
    shown = ("path", "size", "time", "perm", "chk", "uid", "gid", "type")
    document: JsonObject = {
        "datasetId": pid,
        "size": sum(file.size for file in files),
        "dataFileList": [
            {name: value for name in shown if (value := getattr(file, name)) not in (None, "")} for file in files
        ],
    }
    if algorithm := next((file.chk_alg for file in files if file.chk_alg), None):
        document["chkAlg"] = algorithm
    return document


def read_orig_files(block: JsonObject) -> list[OrigFile]:
    """The files of an origdatablock that was read with `compact_entry`.

    Raises:
        BadDocumentError: an entry lacks path, size or time.
    """
    algorithm = sys.intern(_text(block, "chkAlg")) or None
    entries = _entries(block, f"Origdatablock {block.get('_id')!r}")
    if algorithm is None:
        return entries
    return [entry._replace(chk_alg=algorithm) if entry.chk else entry for entry in entries]


def read_datablock(block: JsonObject) -> Datablock:
    """A datablock that was read with `compact_entry`; without files where its list was not asked for.

    Raises:
        BadDocumentError: it, or an entry, lacks a required field.
    """
    what = f"Datablock {block.get('_id')!r}"
    entries = _entries(block, what) if "dataFileList" in block else []
    return Datablock(
        id=_text(block, "_id", "id"),
        archive_id=_required(block, "archiveId", str, what),
        size=int(_required(block, "size", (int, float), what)),
        packed_size=_count(block.get("packedSize")),
        chk_alg=_text(block, "chkAlg") or None,
        version=_text(block, "version"),
        files=tuple(
            DatablockFile(
                entry.path,
                entry.size,
                entry.time,
                entry.chk,
                entry.uid or None,
                entry.gid or None,
                entry.perm or None,
            )
            for entry in entries
        ),
    )


def write_datablock(pid: str, block: Datablock) -> JsonObject:
    """The body that registers `block` for data set `pid`."""
    document: JsonObject = {
        "datasetId": pid,
        "archiveId": block.archive_id,
        "size": block.size,
        "packedSize": block.packed_size,
        "version": block.version,
        "dataFileList": [
            {name: value for name, value in file._asdict().items() if value is not None} for file in block.files
        ],
    }
    if block.chk_alg:
        document["chkAlg"] = block.chk_alg
    return document


def _instant(time: str) -> datetime | str:
    """An ISO time as an instant of whole milliseconds, as SciCat keeps it; the text where it is none."""
    try:
        instant = datetime.fromisoformat(time)
    except ValueError:
        return time
    instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def datablock_difference(wanted: Datablock, found: Datablock) -> str | None:
    """What first tells two datablocks apart, besides their ids; None when they are equal."""
    for name in ("archive_id", "size", "packed_size", "chk_alg", "version"):
        if getattr(wanted, name) != getattr(found, name):
            return f"{name} {getattr(found, name)!r} instead of {getattr(wanted, name)!r}"
    if len(wanted.files) != len(found.files):
        return f"{len(found.files)} files instead of {len(wanted.files)}"
    for one, other in zip(wanted.files, found.files, strict=True):
        if one == other:
            continue
        if one._replace(time="") != other._replace(time="") or _instant(one.time) != _instant(other.time):
            return f"{other} instead of {one}"
    return None


def read_job(document: JsonObject) -> Job:
    """A job in the form of v4 or of v3.

    Raises:
        BadDocumentError: it has no id.
    """
    parameters = document.get("jobParams")
    parameters = parameters if isinstance(parameters, dict) else {}
    listed = document.get("datasetList") or parameters.get("datasetList")
    datasets: dict[str, JobDataset] = {}
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict) and (pid := _text(item, "pid")):
            files = _texts(item.get("files"))
            if (before := datasets.get(pid)) is not None:
                # Named twice: all files, if one of the two asks for all.
                files = before.files + files if before.files and files else ()
            datasets[pid] = JobDataset(pid, files)
    if not (job_id := _text(document, "id", "_id")):
        raise BadDocumentError("A job in SciCat has no id. Check that this version of SciCat is supported.")
    return Job(
        id=job_id,
        type=_text(document, "type"),
        status=_text(document, "statusCode", "jobStatusMessage"),
        datasets=tuple(datasets.values()),
        owner_user=_text(document, "ownerUser") or _text(parameters, "username"),
        owner_group=_text(document, "ownerGroup") or _text(parameters, "ownerGroup"),
        contact_email=_text(document, "contactEmail", "emailJobInitiator"),
        parameters=parameters,
        created_at=_text(document, "createdAt", "creationTime"),
    )


def is_kept(wanted: Any, found: Any) -> bool:
    """Whether a lifecycle field holds what was written. None stands for "empty", an absent field counts."""
    if not wanted and not isinstance(wanted, bool):
        return not found
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and _without_none(wanted) == _without_none(found)
    return bool(wanted == found)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def merge_patch(wanted: Any, found: Any) -> Any:
    """A merge patch (RFC 7386) that makes `wanted` out of `found`: keys that are not wanted become null."""
    if not isinstance(wanted, Mapping):
        return wanted
    if not wanted:
        return None
    stale = [key for key in found if key not in wanted] if isinstance(found, Mapping) else []
    known = found if isinstance(found, Mapping) else {}
    return {key: merge_patch(value, known.get(key)) for key, value in wanted.items()} | dict.fromkeys(stale)


def names_of_unknown_fields(reason: str, names: Sequence[str]) -> list[str]:
    """Which of `names` a validation error says should not exist."""
    return [name for name in names if f"property {name} should not exist" in reason]
