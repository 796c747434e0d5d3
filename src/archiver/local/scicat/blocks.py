"""What origdatablocks and datablocks have in common: making, showing and selecting blocks, data sets' totals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from archiver.local.scicat.context import Call
from archiver.local.scicat.dto import Field, Spec
from archiver.local.scicat.errors import refused
from archiver.local.scicat.matching import names_files
from archiver.local.scicat.queries import Query, project, select
from archiver.local.scicat.store import Block, BlockKind, Store
from archiver.local.scicat.values import Document, dumps, iso, new_uuid, normal_date, now

# Quotes inside a JSON text are escaped, so this matches the ids of entries only, never part of a file's name.
_ENTRY_ID = re.compile(r'"_id":"([0-9a-f]{24})"')

OWNERSHIP: Spec = {
    "datasetId": Field("text", required=True),
    "ownerGroup": Field("string"),
    "accessGroups": Field("strings"),
    "instrumentGroup": Field("string"),
    "isPublished": Field("boolean"),
}


def dataset_or_404(call: Call, pid: str) -> Document:
    """The data set; raises the 404 for an unknown pid."""
    dataset = call.store.get("datasets", pid)
    if dataset is None:
        named = "null" if call.version == 4 else pid
        raise refused(404, f"Dataset {named} was not found")
    return dataset


def new_block(call: Call, kind: BlockKind, body: Document, ownership: Document) -> Block:
    """Store a block made from a checked body; raises DuplicateError for a taken archiveId."""
    moment = iso(now())
    head = {
        "createdBy": call.username,
        "updatedBy": call.username,
        **ownership,
        **{name: value for name, value in body.items() if name not in {"dataFileList", *ownership}},
        "_id": new_uuid(),
        "createdAt": moment,
        "updatedAt": moment,
        "__v": 0,
    }
    return call.store.insert_block(kind, head, stored_files(body["dataFileList"], call.catalogue.object_ids))


def ownership_of(dataset: Document) -> Document:
    """The fields a block takes over from its data set."""
    inherited = {
        "ownerGroup": dataset["ownerGroup"],
        "accessGroups": dataset.get("accessGroups") or [],
        "isPublished": dataset.get("isPublished") is True,
        "datasetId": dataset["pid"],
    }
    if dataset.get("instrumentGroup") is not None:
        inherited["instrumentGroup"] = dataset["instrumentGroup"]
    return inherited


def stored_files(entries: Sequence[Document], ids: Iterator[str]) -> list[Document]:
    """The entries of a file list with dates in the stored form and an ``_id`` each."""
    return [{**entry, "time": normal_date(entry["time"]), "_id": next(ids)} for entry in entries]


def full_document(store: Store, block: Block) -> Document:
    """The block with its list of files."""
    return {**block.head, "dataFileList": json.loads(store.file_list(block.id))}


def block_text(store: Store, block: Block, fields: tuple[str, ...] | None, *, aggregated: bool = False) -> str:
    """The block as JSON text; ``aggregated`` is the form inside a data set, which has no ``id``."""
    if fields is not None:
        asks_files = any(name.split(".")[0] == "dataFileList" for name in fields)
        return dumps(project(full_document(store, block) if asks_files else block.head, fields))
    files = store.file_list(block.id)
    if aggregated:
        return f'{dumps(block.head)[:-1]},"dataFileList":{files}}}'
    files = _ENTRY_ID.sub(r'"_id":"\1","id":"\1"', files)
    return f'{dumps({**block.head, "id": block.id})[:-1]},"dataFileList":{files}}}'


def list_text(
    store: Store, blocks: Sequence[Block], fields: tuple[str, ...] | None = None, *, aggregated: bool = False
) -> str:
    """Blocks as the text of a JSON array."""
    return f"[{','.join(block_text(store, block, fields, aggregated=aggregated) for block in blocks)}]"


def select_blocks(store: Store, blocks: Sequence[Block], query: Query) -> list[Block]:
    """The blocks a query selects; file lists are read only if it asks for them."""

    def view(block: Block) -> Document:
        return full_document(store, block) if names_files(query.where) else block.head

    return select(blocks, query, view)


def add_totals(call: Call, pid: str, **changes: int) -> bool:
    """Add to a data set's totals, never below 0; False if there is no such data set."""
    dataset = call.store.get("datasets", pid)
    if dataset is None:
        return False
    set_totals(
        call,
        dataset,
        **{name: max(0, int(dataset.get(name) or 0) + change) for name, change in changes.items()},
    )
    return True


def set_totals(call: Call, dataset: Document, **totals: int) -> None:
    """Overwrite a data set's totals."""
    changed: dict[str, Any] = {**dataset, **totals, "updatedAt": iso(now()), "updatedBy": call.username}
    call.store.replace("datasets", dataset["pid"], changed)
