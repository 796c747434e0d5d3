"""Datablocks: the files of a data set as they were archived (API v3 only)."""

from __future__ import annotations

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
from archiver.local.scicat.context import V3, Call, Reply, Route
from archiver.local.scicat.dto import Field, Spec, check, optional
from archiver.local.scicat.errors import refused, refused_bare, rewrapped, unhandled
from archiver.local.scicat.queries import V3_LIMIT, Query, v3_query
from archiver.local.scicat.store import Block, DuplicateError
from archiver.local.scicat.values import Document, iso, now

_KIND: Final = "datablocks"
NESTED: Spec = {
    "archiveId": Field("string", required=True),
    "size": Field("integer", required=True),
    "packedSize": Field("integer", required=True),
    "version": Field("string", required=True),
    "dataFileList": Field("files", required=True),
    "chkAlg": Field("text"),
}
TOP_LEVEL: Spec = {**NESTED, **OWNERSHIP}


def create_nested(call: Call) -> Reply:
    """Register a block for any data set; a known archiveId ends in a bare 500."""
    call.allow(call.rights.creates)
    body = check(call.body, NESTED)
    dataset = dataset_or_404(call, call.params["pid"])
    try:
        block = new_block(call, _KIND, body, ownership_of(dataset))
    except DuplicateError as error:
        raise unhandled() from error
    return _registered(call, block)


def create(call: Call) -> Reply:
    """Register a block; 409 for a known archiveId. An unknown data set is accepted: the block is an orphan."""
    call.signed_in()
    if not call.rights.named_creator:
        raise refused_bare(403)
    body = check(call.body, TOP_LEVEL)
    dataset = call.store.get("datasets", body["datasetId"])
    inherited: Document = {"ownerGroup": "", "accessGroups": [], "isPublished": False}
    if dataset is not None:
        if not call.rights.privileged and not call.rights.owns(dataset):
            raise refused_bare(403)
        inherited = ownership_of(dataset)
    given = {name: body[name] for name in OWNERSHIP if body.get(name) is not None}
    try:
        block = new_block(call, _KIND, body, {**inherited, **given})
    except DuplicateError as error:
        raise refused(409, f"A datablock with the archiveId {body['archiveId']} exists already") from error
    return _registered(call, block)


def list_nested(call: Call) -> Reply:
    """The first 100 blocks of a data set."""
    return Reply(list_text(call.store, _of_readable_dataset(call)[:V3_LIMIT]))


def count_nested(call: Call) -> Reply:
    """How many blocks a data set has."""
    return Reply.of({"count": len(_of_readable_dataset(call))})


def list_blocks(call: Call) -> Reply:
    """The blocks a filter selects among those the caller may read."""
    call.signed_in()
    query = v3_query(call.query.get("filter"), call.headers.get("filter"))
    return Reply(list_text(call.store, _selected(call, query), query.fields))


def count(call: Call) -> Reply:
    """How many blocks a filter selects among those the caller may read."""
    call.signed_in()
    query = v3_query(call.query.get("filter"), call.headers.get("filter"))
    return Reply.of({"count": len(_selected(call, Query(where=query.where)))})


def read_broken(call: Call) -> Reply:
    """Whatever id is asked for: the first block there is; 401 if the caller may not read that one."""
    call.signed_in()
    first = _first(call)
    if first is None:
        return Reply(None)
    if not call.rights.reads_datablock(first.head):
        raise refused_bare(401)
    return Reply(block_text(call.store, first, None))


def patch(call: Call) -> Reply:
    """Change the given fields; totals stay as they are. A refusal arrives wrapped in a 500."""
    call.signed_in()
    body = check(call.body, optional(TOP_LEVEL))
    block = _known(call, call.params["id"])
    if not (call.rights.admin or call.rights.owns(block.head)):
        raise rewrapped(refused(403, "You may not change this datablock"))
    return Reply(block_text(call.store, _changed(call, block, body), None))


def patch_nested(call: Call) -> Reply:
    """Change a block; ``dataFileList`` must be given.

    What is taken off the totals is the size of the first block there is, whichever is meant.
    """
    call.allow(call.rights.creates)
    body = check(call.body, {**optional(NESTED), "dataFileList": NESTED["dataFileList"]})
    dataset = dataset_or_404(call, call.params["pid"])
    if not call.rights.updates_dataset(dataset):
        raise refused(403, "You may not change this data set's files")
    block = _known(call, call.params["id"])
    before = _first(call) or block
    changed = _changed(call, block, body)
    add_totals(
        call,
        dataset["pid"],
        packedSize=int(changed.head["packedSize"]) - int(before.head["packedSize"]),
        numberOfFilesArchived=changed.files - before.files,
    )
    return Reply(block_text(call.store, changed, None))


def delete(call: Call) -> Reply:
    """Remove a block and take it off the totals; 404 also if its data set is gone."""
    call.allow(call.rights.deletes)
    block = _known(call, call.params["id"])
    dataset_or_404(call, block.dataset_id)
    text = block_text(call.store, block, None)
    _remove(call, block)
    return Reply(text)


def delete_nested(call: Call) -> Reply:
    """Remove a block of a data set and take it off the totals; the reply is empty."""
    call.allow(call.rights.deletes)
    dataset = dataset_or_404(call, call.params["pid"])
    block = _known(call, call.params["id"])
    if block.dataset_id != dataset["pid"]:
        raise refused(404, f"Datablock {block.id} was not found")
    _remove(call, block)
    return Reply(None)


def delete_all_nested(call: Call) -> Reply:
    """Remove all blocks of a data set; its totals become 0."""
    call.allow(call.rights.deletes)
    dataset = dataset_or_404(call, call.params["pid"])
    blocks = call.store.blocks(_KIND, dataset["pid"])
    call.store.delete_blocks(blocks)
    set_totals(call, dataset, packedSize=0, numberOfFilesArchived=0)
    return Reply.of({"count": len(blocks)})


def _registered(call: Call, block: Block) -> Reply:
    add_totals(
        call,
        block.dataset_id,
        packedSize=int(block.head["packedSize"]),
        numberOfFilesArchived=block.files,
    )
    return Reply(block_text(call.store, block, None), 201)


def _remove(call: Call, block: Block) -> None:
    call.store.delete_blocks([block])
    add_totals(
        call,
        block.dataset_id,
        packedSize=-int(block.head["packedSize"]),
        numberOfFilesArchived=-block.files,
    )


def _changed(call: Call, block: Block, body: Document) -> Block:
    given = {name: value for name, value in body.items() if name != "dataFileList" and value is not None}
    head = {**block.head, **given, "updatedAt": iso(now()), "updatedBy": call.username}
    entries = body.get("dataFileList")
    files = None if entries is None else stored_files(entries, call.catalogue.object_ids)
    try:
        return call.store.replace_block(block, head, files)
    except DuplicateError as error:
        raise refused(409, f"A datablock with the archiveId {head['archiveId']} exists already") from error


def _selected(call: Call, query: Query) -> list[Block]:
    wanted = query.where.get("datasetId")
    blocks = call.store.blocks(_KIND, wanted if isinstance(wanted, str) else None)
    readable = [block for block in blocks if call.rights.reads_datablock(block.head)]
    return select_blocks(call.store, readable, query)


def _of_readable_dataset(call: Call) -> list[Block]:
    dataset = dataset_or_404(call, call.params["pid"])
    if not call.rights.reads_blocks(dataset):
        raise refused(403, "You may not read this data set's files")
    return call.store.blocks(_KIND, dataset["pid"])


def _first(call: Call) -> Block | None:
    return next(iter(call.store.blocks(_KIND)), None)


def _known(call: Call, key: str) -> Block:
    block = call.store.block(_KIND, key)
    if block is None:
        raise refused(404, f"Datablock {key} was not found")
    return block


ROUTES = [
    Route(V3, "POST", "/datasets/{pid}/datablocks", create_nested),
    Route(V3, "GET", "/datasets/{pid}/datablocks", list_nested),
    Route(V3, "DELETE", "/datasets/{pid}/datablocks", delete_all_nested),
    Route(V3, "GET", "/datasets/{pid}/datablocks/count", count_nested),
    Route(V3, "PATCH", "/datasets/{pid}/datablocks/{id}", patch_nested),
    Route(V3, "DELETE", "/datasets/{pid}/datablocks/{id}", delete_nested),
    Route(V3, "POST", "/datablocks", create),
    Route(V3, "GET", "/datablocks", list_blocks),
    Route(V3, "GET", "/datablocks/count", count),
    Route(V3, "GET", "/datablocks/{id}", read_broken),
    Route(V3, "PATCH", "/datablocks/{id}", patch),
    Route(V3, "DELETE", "/datablocks/{id}", delete),
]
