"""Origdatablocks: the files of a data set as they were ingested.

The nested way in accepts every account that may create data sets at all, even for somebody else's data set;
the top-level ways check ownership but add the totals up over truncated lists. Both as in the real backend.
"""

from __future__ import annotations

import json
from typing import Final

from archiver.local.scicat.blocks import (
    OWNERSHIP,
    add_totals,
    block_text,
    dataset_or_404,
    list_text,
    new_block,
    ownership_of,
    select_blocks,
    set_totals,
    stored_files,
)
from archiver.local.scicat.context import BOTH, V3, V4, Call, Reply, Route
from archiver.local.scicat.dto import Field, Spec, check
from archiver.local.scicat.errors import invalid, refused
from archiver.local.scicat.matching import matches
from archiver.local.scicat.queries import V3_LIMIT, V4_LIMIT, Query, v3_query, v4_query
from archiver.local.scicat.store import Block
from archiver.local.scicat.values import Document, iso, now

_KIND: Final = "origdatablocks"
NESTED: Spec = {
    "size": Field("integer", required=True),
    "dataFileList": Field("files", required=True),
    "chkAlg": Field("text"),
}
TOP_LEVEL: Spec = {**NESTED, **OWNERSHIP}
_FILE_ROW_FIELDS = frozenset({*TOP_LEVEL, "_id", "createdBy", "updatedBy", "createdAt", "updatedAt", "datasetExist"})


def create_nested(call: Call) -> Reply:
    """Add a block to any data set; its size and number of files are added to the data set's."""
    call.allow(call.rights.creates)
    body = check(call.body, NESTED)
    dataset = dataset_or_404(call, call.params["pid"])
    block = new_block(call, _KIND, body, ownership_of(dataset))
    add_totals(call, dataset["pid"], size=body["size"], numberOfFiles=block.files)
    return Reply(block_text(call.store, block, None), 201)


def create(call: Call) -> Reply:
    """Add a block to a data set of one's own; the totals are counted anew over the first few blocks."""
    call.allow(call.rights.creates)
    body = check(call.body, TOP_LEVEL)
    dataset = call.store.get("datasets", body["datasetId"])
    if dataset is None and call.version == 4 and not call.rights.admin:
        raise refused(403, "You may not add files to this data set")
    if dataset is None:
        raise refused(404, f"Dataset {body['datasetId']} was not found")
    if not call.rights.updates_dataset(dataset):
        raise refused(403, "You may not add files to this data set")
    block = new_block(call, _KIND, body, ownership_of(dataset))
    _count_anew(call, dataset["pid"])
    return Reply(block_text(call.store, block, None), 201)


def list_nested(call: Call) -> Reply:
    """The first 100 blocks of a data set; there is no way to the others here."""
    blocks = _of_readable_dataset(call)
    return Reply(list_text(call.store, blocks[:V3_LIMIT]))


def count_nested(call: Call) -> Reply:
    """How many blocks a data set has."""
    return Reply.of({"count": len(_of_readable_dataset(call))})


def list_blocks(call: Call) -> Reply:
    """The blocks a filter selects; those the caller may not read are left out without a word."""
    query = _query(call)
    return Reply(list_text(call.store, _selected(call, query), query.fields))


def count(call: Call) -> Reply:
    """How many blocks a filter selects among those the caller may read."""
    return Reply.of({"count": len(_selected(call, Query(where=_query(call).where)))})


def list_files(call: Call) -> Reply:
    """One row per file; ``dataFileList`` holds that file alone."""
    query = _query(call)
    unknown = sorted({name.split(".")[0] for name in query.where} - _FILE_ROW_FIELDS)
    if unknown:
        raise invalid([f"property {name} should not exist" for name in unknown])
    rows: list[Document] = []
    head_where = {name: value for name, value in query.where.items() if name in {"datasetId", "_id"}}
    for block in _selected(call, Query(where=head_where, order=query.order)):
        extra = {"datasetExist": call.store.get("datasets", block.dataset_id) is not None}
        for entry in json.loads(call.store.file_list(block.id)):
            row = {**block.head, "dataFileList": entry, **extra}
            if matches(row, query.where):
                rows.append(row)
    end = None if query.limit is None else query.skip + query.limit
    return Reply.of(rows[query.skip : end])


def read(call: Call) -> Reply:
    """One block; 404, 403."""
    if call.version == 4:
        call.signed_in()
    block = _known(call, call.params["id"])
    if not call.rights.reads_blocks(block.head):
        raise refused(403, "You may not read this origdatablock")
    return Reply(block_text(call.store, block, None))


def patch_nested(call: Call) -> Reply:
    """Change a block; the body must be complete, as for a new one."""
    call.allow(call.rights.creates)
    body = check(call.body, NESTED)
    dataset = dataset_or_404(call, call.params["pid"])
    if not call.rights.updates_dataset(dataset):
        raise refused(403, "You may not change this data set's files")
    block = _known(call, call.params["id"])
    before = int(block.head["size"])
    kept = {name: value for name, value in body.items() if name != "dataFileList"}
    head = {**block.head, **kept, "updatedAt": iso(now()), "updatedBy": call.username}
    changed = call.store.replace_block(block, head, stored_files(body["dataFileList"], call.catalogue.object_ids))
    add_totals(call, dataset["pid"], size=body["size"] - before, numberOfFiles=changed.files - block.files)
    return Reply(block_text(call.store, changed, None))


def delete_nested(call: Call) -> Reply:
    """Remove a block and take it off the data set's totals."""
    call.allow(call.rights.deletes)
    dataset = dataset_or_404(call, call.params["pid"])
    block = _known(call, call.params["id"])
    text = block_text(call.store, block, None)
    call.store.delete_blocks([block])
    add_totals(call, dataset["pid"], size=-int(block.head["size"]), numberOfFiles=-block.files)
    return Reply(text)


def delete(call: Call) -> Reply:
    """Remove a block and count the data set's totals anew."""
    call.allow(call.rights.deletes)
    block = _known(call, call.params["id"])
    text = block_text(call.store, block, None)
    call.store.delete_blocks([block])
    _count_anew(call, block.dataset_id)
    return Reply(text)


def _query(call: Call) -> Query:
    if call.version == 4:
        call.signed_in()
        return v4_query(call.query.get("filter"))
    return v3_query(call.query.get("filter"), call.headers.get("filter"))


def _selected(call: Call, query: Query) -> list[Block]:
    wanted = query.where.get("datasetId")
    blocks = call.store.blocks(_KIND, wanted if isinstance(wanted, str) else None)
    readable = [block for block in blocks if call.rights.reads_blocks(block.head)]
    return select_blocks(call.store, readable, query)


def _of_readable_dataset(call: Call) -> list[Block]:
    dataset = dataset_or_404(call, call.params["pid"])
    if not call.rights.reads_blocks(dataset):
        raise refused(403, "You may not read this data set's files")
    return call.store.blocks(_KIND, dataset["pid"])


def _known(call: Call, key: str) -> Block:
    block = call.store.block(_KIND, key)
    if block is None:
        raise refused(404, f"Origdatablock {key} was not found")
    return block


def _count_anew(call: Call, pid: str) -> None:
    dataset = call.store.get("datasets", pid)
    if dataset is None:
        return
    blocks = call.store.blocks(_KIND, pid)
    seen = blocks[:V3_LIMIT] if call.version == 3 else blocks[-V4_LIMIT:]
    set_totals(
        call,
        dataset,
        size=sum(int(block.head["size"]) for block in seen),
        numberOfFiles=sum(block.files for block in seen),
    )


ROUTES = [
    Route(V3, "POST", "/datasets/{pid}/origdatablocks", create_nested),
    Route(V3, "GET", "/datasets/{pid}/origdatablocks", list_nested),
    Route(V3, "GET", "/datasets/{pid}/origdatablocks/count", count_nested),
    Route(V3, "PATCH", "/datasets/{pid}/origdatablocks/{id}", patch_nested),
    Route(V3, "DELETE", "/datasets/{pid}/origdatablocks/{id}", delete_nested),
    Route(BOTH, "POST", "/origdatablocks", create),
    Route(BOTH, "GET", "/origdatablocks", list_blocks),
    Route(BOTH, "GET", "/origdatablocks/count", count),
    Route(V4, "GET", "/origdatablocks/files", list_files),
    Route(BOTH, "GET", "/origdatablocks/{id}", read),
    Route(BOTH, "DELETE", "/origdatablocks/{id}", delete),
]
