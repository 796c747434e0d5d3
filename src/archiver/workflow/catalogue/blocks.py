"""The origdatablocks or datablocks of a data set, all of them, whatever their number and size.

SciCat's own lists end silently after 10 or 100 blocks, and show an account with fewer rights none at all.
What a data set *includes* is complete; but one answer is one document of its database, and that ends at
16 MB (some 80,000 files). So the ids of all blocks are read first, then the blocks themselves in groups that
stay far below.
"""

import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import structlog

from archiver.workflow.catalogue.connection import Connection
from archiver.workflow.catalogue.documents import BadDocumentError, compact_entry
from archiver.workflow.catalogue.models import JsonObject, OrigFile
from archiver.workflow.catalogue.responses import FailedCallError, RefusedCallError, expect_object, unknown_dataset
from archiver.workflow.errors import CatalogueError

log = structlog.get_logger(__name__)

Relation = Literal["origdatablocks", "datablocks"]
T = TypeVar("T")

GROUP_BYTES = 4_000_000
"""Aimed-at length of one answer."""
GROUP_BLOCKS = 100

_HEADERS = ["_id", "archiveId", "size", "packedSize", "chkAlg", "version"]


class BlockReader:
    """Reads the blocks of data sets."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        """A reader over `connection`; `prefix` is that of the v3 API."""
        self._connection = connection
        self._prefix = prefix

    def headers(self, pid: str, relation: Relation) -> list[JsonObject]:
        """The blocks, as a rule without their `dataFileList`.

        Raises:
            UnknownDatasetError: SciCat does not know the data set.
            CatalogueError, CatalogueRefusedError: see `Connection.call`.
        """
        return self._ask(pid, relation, {"fields": _HEADERS})[0]

    def each(self, pid: str, relation: Relation) -> Iterator[JsonObject]:
        """The blocks one after another, their entries already compact (see `compact_entry`).

        Only the end of the iteration says that these are all of them, and that nobody wrote to them meanwhile.

        Raises:
            CatalogueError: blocks were added or removed meanwhile.
            UnknownDatasetError, CatalogueRefusedError: as for `headers`.
        """
        listed: set[str] = set()
        given: set[str] = set()
        for block in self.headers(pid, relation):
            listed.add(_id(block))
            if "dataFileList" in block:
                # An older SciCat that takes no notice of the scope sends everything at once.
                given.add(_id(block))
                yield block
        total = len(listed)
        if len(given) < total:
            for block in self._groups(pid, relation, total):
                if _id(block) not in given:
                    given.add(_id(block))
                    yield block
        if given != listed:
            raise CatalogueError(
                f"The {relation} of {pid} changed while they were read. Try again when nobody writes to them."
            )

    def read(self, pid: str, relation: Relation, parse: Callable[[JsonObject], T]) -> list[T]:
        """What `parse` makes of each block.

        Raises:
            CatalogueError, UnknownDatasetError, CatalogueRefusedError: as for `each`.
        """
        return [parse(block) for block in self.each(pid, relation)]

    def read_one(self, pid: str, relation: Relation, block_id: str) -> JsonObject | None:
        """One block with its files, by its id; None when the data set has no such block."""
        headers = self.headers(pid, relation)
        position = next((place for place, block in enumerate(headers) if _id(block) == block_id), None)
        if position is None:
            return None
        if "dataFileList" in headers[position]:
            return headers[position]
        at_position, _ = self._ask(pid, relation, _group(position, 1))
        for block in chain(at_position, self._groups(pid, relation, len(headers))):
            if _id(block) == block_id:
                return block
        return None

    def _groups(self, pid: str, relation: Relation, total: int) -> Iterator[JsonObject]:
        """The blocks in SciCat's own order, group by group."""
        largest, skip, limit, most = 0.0, 0, 1, GROUP_BLOCKS
        while skip < total:
            try:
                group = _group(skip, min(limit, total - skip))
                blocks, length = self._ask(pid, relation, group, once=limit > 1)
            except (FailedCallError, RefusedCallError) as error:
                if limit == 1:
                    raise
                # Blocks further on may be larger than those before, and too large together.
                log.info("catalogue_blocks_one_by_one", pid=pid, relation=relation, because=str(error))
                limit = most = 1
                continue
            if not blocks:
                return
            yield from blocks
            skip += len(blocks)
            largest = max(largest, length / len(blocks))
            limit = max(1, min(most, 2 * limit, int(GROUP_BYTES / largest)))

    def _ask(
        self, pid: str, relation: Relation, scope: JsonObject, *, once: bool = False
    ) -> tuple[list[JsonObject], int]:
        """The blocks within `scope`, and about how many bytes they are."""
        purpose = f"list the {relation} of {pid}"
        with unknown_dataset(pid):
            document = self._connection.call(
                "GET",
                f"{self._prefix}/datasets/{quote(pid, safe='')}",
                purpose,
                query={"filter": json.dumps({"include": [{"relation": relation, "scope": scope}]})},
                hook=compact_entry,
                once=once,
            )
        blocks = expect_object(document, purpose).get(relation)
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise BadDocumentError(
                f"SciCat was asked to {purpose} and gave no list of them. "
                "Check that this version of SciCat is supported."
            )
        return blocks, sum(map(_length, blocks))


def _group(skip: int, limit: int) -> JsonObject:
    return {"limits": {"skip": skip, "limit": limit}}


def _id(block: JsonObject) -> str:
    value: Any = block.get("_id") or block.get("id")
    if not isinstance(value, str):
        raise BadDocumentError("SciCat lists a block without id. Check that this version is supported.")
    return value


def _length(block: JsonObject) -> int:
    """About the bytes a block takes in an answer: its paths, and as much again as an entry has at most."""
    entries = block.get("dataFileList") or []
    return 500 + sum(300 + len(entry.path) for entry in entries if isinstance(entry, OrigFile))
