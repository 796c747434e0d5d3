"""Data sets: create, read, list, change, delete (API v3 and v4)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from archiver.local.scicat.blocks import dataset_or_404, list_text, select_blocks
from archiver.local.scicat.context import BOTH, V4, Call, Reply, Route
from archiver.local.scicat.dataset_model import (
    create_spec,
    from_body,
    lifecycle_defaults,
    new_dataset,
    patch_spec,
    view_v3,
    whole_lifecycle,
)
from archiver.local.scicat.dto import Spec, nested_errors, problems
from archiver.local.scicat.errors import ApiError, invalid, refused
from archiver.local.scicat.merging import merge
from archiver.local.scicat.queries import EVERYTHING, Query, project, relations, select, v3_query, v4_query
from archiver.local.scicat.store import BlockKind, DuplicateError
from archiver.local.scicat.values import Document, dumps, iso, new_uuid, now, parse_iso

_BLOCK_KINDS: tuple[BlockKind, ...] = ("origdatablocks", "datablocks")


def create(call: Call) -> Reply:
    """A new data set; 400 for a wrong body, 403 for a group or pid the caller may not choose, 409 for a known pid."""
    call.allow(call.rights.creates)
    spec = create_spec(call.version, call.body)
    body = _checked(call, spec)
    if not call.rights.privileged and body["ownerGroup"] not in call.rights.groups:
        raise refused(403, "The data set's ownerGroup is none of yours")
    if body.get("pid") is not None and not call.rights.chooses_pid:
        raise refused(403, "You may not choose the pid of a data set")
    if body.get("owner") is None:
        raise ApiError(500, {"message": "The database requires an owner", "statusCode": 500})
    fields = from_body(body, fill_plurals=call.version == 3 and body["type"] in {"raw", "derived"})
    pid = body.get("pid") or f"{call.catalogue.config.pid_prefix}/{new_uuid()}"
    lifecycle = whole_lifecycle(body.get("datasetlifecycle") or {}, _defaults(call), _new_id(call))
    dataset = new_dataset(fields, pid, lifecycle, call.username, call.version)
    try:
        call.store.insert("datasets", pid, dataset)
    except DuplicateError as error:
        raise refused(409, f"A data set with the pid {pid} exists already") from error
    return Reply.of(_written(call, dataset), 201)


def is_valid(call: Call) -> Reply:
    """Whether a body could create a data set."""
    call.signed_in()
    found = problems(call.body, create_spec(call.version, call.body))
    result: Document = {"valid": not found}
    if found and call.version == 3:
        result["error"] = "; ".join(str(problem) for problem in found)
    return Reply.of(result)


def read(call: Call) -> Reply:
    """One data set with the relations asked for; 404, 403."""
    if call.version == 4:
        call.signed_in()
        included = relations(call.query_lists("include"))
        query = Query(where={}, include=tuple((name, EVERYTHING) for name in included))
    else:
        query = v3_query(call.query.get("filter"), call.headers.get("filter"))
    dataset = readable_dataset(call, call.params["pid"])
    return Reply(_text(call, dataset, query, history=True))


def list_datasets(call: Call) -> Reply:
    """The data sets a filter selects among those the caller may read."""
    query = _query(call)
    chosen = select(_visible(call), query, _plain)
    return Reply(f"[{','.join(_text(call, dataset, query) for dataset in chosen)}]")


def find_one(call: Call) -> Reply:
    """The first data set a filter selects, or an empty body."""
    query = _query(call)
    chosen = select(_visible(call), query, _plain)[:1]
    return Reply(_text(call, chosen[0], query)) if chosen else Reply(None)


def count(call: Call) -> Reply:
    """How many data sets a filter selects, whatever its limits."""
    query = _query(call)
    return Reply.of({"count": len(select(_visible(call), Query(where=query.where), _plain))})


def list_public(call: Call) -> Reply:
    """The published data sets a filter selects; for anybody."""
    query = v4_query(call.query.get("filter"))
    chosen = select(_published(call), query, _plain)
    return Reply(f"[{','.join(_text(call, dataset, query) for dataset in chosen)}]")


def read_public(call: Call) -> Reply:
    """One published data set; for anybody."""
    dataset = dataset_or_404(call, call.params["pid"])
    if dataset.get("isPublished") is not True:
        raise refused(404, "Dataset null was not found")
    return Reply.of(dataset)


def patch(call: Call) -> Reply:
    """Change the given fields; an object replaces the stored one, so a lifecycle sent here starts anew.

    v4 with a merge patch merges deeply instead. 400, 403, 404, 412.
    """
    call.allow(call.rights.creates)
    dataset = dataset_or_404(call, call.params["pid"])
    body = _checked(call, patch_spec(call.version, dataset))
    if not call.rights.updates_dataset(dataset):
        raise refused(403, "You may not change this data set")
    _check_unmodified(call, dataset)
    given = from_body(body, fill_plurals=False)
    lifecycle = given.pop("datasetlifecycle", None)
    if call.version == 4 and call.merge_patch:
        changed = merge(dataset, given)
        if lifecycle is not None:
            merged = merge(dataset["datasetlifecycle"], lifecycle)
            changed["datasetlifecycle"] = whole_lifecycle(merged, _defaults(call), merged["_id"])
    else:
        changed = {**dataset, **given}
        if lifecycle is not None:
            changed["datasetlifecycle"] = whole_lifecycle(lifecycle, _defaults(call), _new_id(call))
    return _save(call, changed)


def put(call: Call) -> Reply:
    """Replace the data set; what the body leaves out is lost."""
    call.allow(call.rights.creates)
    spec = {name: field for name, field in create_spec(call.version, call.body).items() if name != "pid"}
    body = _checked(call, spec)
    dataset = dataset_or_404(call, call.params["pid"])
    if not call.rights.updates_dataset(dataset):
        raise refused(403, "You may not change this data set")
    fields = from_body(body, fill_plurals=call.version == 3)
    lifecycle = whole_lifecycle(body.get("datasetlifecycle") or {}, _defaults(call), _new_id(call))
    anew = new_dataset(fields, dataset["pid"], lifecycle, call.username, call.version)
    kept = ("createdBy", "createdAt", "classification", "version")
    return _save(call, {**anew, **{name: dataset[name] for name in kept}})


def delete(call: Call) -> Reply:
    """Remove the data set and nothing else: its blocks stay behind."""
    call.allow(call.rights.deletes)
    dataset = dataset_or_404(call, call.params["pid"])
    call.store.delete("datasets", dataset["pid"])
    return Reply.of(_written(call, dataset))


def _save(call: Call, changed: Document) -> Reply:
    changed = {**changed, "updatedAt": iso(now()), "updatedBy": call.username}
    call.store.replace("datasets", changed["pid"], changed)
    return Reply.of(_written(call, changed))


def _checked(call: Call, spec: Spec) -> Document:
    found = problems(call.body, spec)
    if found:
        raise nested_errors(found) if call.version == 3 else invalid([str(problem) for problem in found])
    return call.body if isinstance(call.body, dict) else {}


def _check_unmodified(call: Call, dataset: Document) -> None:
    header = call.headers.get("if-unmodified-since")
    if header is None:
        return
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    updated = parse_iso(dataset["updatedAt"])
    if isinstance(updated, datetime) and moment <= updated:
        raise refused(412, "The data set was changed in the meantime")


def readable_dataset(call: Call, pid: str) -> Document:
    """The data set; raises the 404 or the 403 of somebody who may not read it."""
    dataset = dataset_or_404(call, pid)
    if not call.rights.reads_dataset(dataset):
        raise refused(403, "You may not read this data set")
    return dataset


def _query(call: Call) -> Query:
    if call.version == 4:
        call.signed_in()
        return v4_query(call.query.get("filter"))
    return v3_query(call.query.get("filter"), call.headers.get("filter"))


def _visible(call: Call) -> Iterable[Document]:
    return (dataset for dataset in call.store.every("datasets") if call.rights.reads_dataset(dataset))


def _published(call: Call) -> Iterable[Document]:
    return (dataset for dataset in call.store.every("datasets") if dataset.get("isPublished") is True)


def _plain(dataset: Document) -> Document:
    return dataset


def _written(call: Call, dataset: Document) -> Document:
    if call.version == 4:
        return {**dataset, "id": dataset["pid"]}
    return {**view_v3(dataset), "history": []}


def _text(call: Call, dataset: Document, query: Query, *, history: bool = False) -> str:
    shown = view_v3(dataset) if call.version == 3 else dataset
    if call.version == 3 and history and query.fields is None:
        shown = {**shown, "history": []}
    text = dumps(project(shown, query.fields))
    for relation, scope in query.include:
        text = f'{text[:-1]}{"," if len(text) > 2 else ""}"{relation}":{_related(call, dataset, relation, scope)}}}'
    return text


def _related(call: Call, dataset: Document, relation: str, scope: Query) -> str:
    kind = next((kind for kind in _BLOCK_KINDS if kind == relation), None)
    if kind is None:
        return "[]"
    blocks = call.store.blocks(kind, dataset["pid"])
    # Only v4 asks who may read the blocks it includes.
    if call.version == 4:
        blocks = [block for block in blocks if call.rights.reads_blocks(block.head)]
    return list_text(call.store, select_blocks(call.store, blocks, scope), scope.fields, aggregated=True)


def _defaults(call: Call) -> Document:
    return lifecycle_defaults(call.catalogue.config, call.catalogue.started)


def _new_id(call: Call) -> str:
    return next(call.catalogue.object_ids)


ROUTES = [
    Route(BOTH, "POST", "/datasets", create),
    Route(BOTH, "POST", "/datasets/isValid", is_valid),
    Route(BOTH, "GET", "/datasets", list_datasets),
    Route(BOTH, "GET", "/datasets/findOne", find_one),
    Route(BOTH, "GET", "/datasets/count", count),
    Route(V4, "GET", "/datasets/public", list_public),
    Route(V4, "GET", "/datasets/public/{pid}", read_public),
    Route(BOTH, "GET", "/datasets/{pid}", read),
    Route(BOTH, "PATCH", "/datasets/{pid}", patch),
    Route(BOTH, "PUT", "/datasets/{pid}", put),
    Route(BOTH, "DELETE", "/datasets/{pid}", delete),
]
