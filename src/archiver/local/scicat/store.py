"""The catalogue's documents in SQLite: a restart keeps them, no delete cascades.

A block (origdatablock or datablock) is kept in two parts, its list of files as JSON text of its own, so that
counting, filtering and adding up blocks of 20,000 files never reads their lists.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archiver.local.scicat.values import Document, dumps

Collection = Literal["datasets", "jobs"]
BlockKind = Literal["origdatablocks", "datablocks"]

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE (collection, id)
);
CREATE TABLE IF NOT EXISTS blocks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL UNIQUE, dataset_id TEXT NOT NULL,
    archive_id TEXT UNIQUE, files INTEGER NOT NULL, head TEXT NOT NULL, file_list TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS blocks_of_dataset ON blocks (kind, dataset_id);
"""


class DuplicateError(Exception):
    """A document with this id, or a datablock with this archiveId, exists already."""


@dataclass(frozen=True)
class Block:
    """One origdatablock or datablock: all fields but ``dataFileList`` (``head``) and how many files it has."""

    kind: BlockKind
    head: Document
    files: int

    @property
    def id(self) -> str:
        """The block's ``_id``."""
        return str(self.head["_id"])

    @property
    def dataset_id(self) -> str:
        """The pid of the data set it says it belongs to."""
        return str(self.head["datasetId"])


class Store:
    """All documents of one catalogue. Use it inside ``transaction()`` only."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            ":memory:" if folder is None else folder / "scicat.sqlite",
            check_same_thread=False,
            isolation_level=None,
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what happens inside is kept unless an exception leaves the block."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def secret(self) -> bytes:
        """The key that signs tokens: made once per catalogue, so that a restart keeps tokens valid."""
        self._db.execute(
            "INSERT OR IGNORE INTO settings VALUES ('jwt-secret', ?)",
            (secrets.token_hex(32),),
        )
        (value,) = self._db.execute("SELECT value FROM settings WHERE name = 'jwt-secret'").fetchone()
        return bytes.fromhex(value)

    def clear(self) -> None:
        """Remove every document and block."""
        self._db.execute("DELETE FROM documents")
        self._db.execute("DELETE FROM blocks")

    def counts(self) -> dict[str, int]:
        """How many data sets, jobs, origdatablocks, datablocks and files of each there are."""
        result = {
            "datasets": 0,
            "jobs": 0,
            "origdatablocks": 0,
            "origdatablockFiles": 0,
            "datablocks": 0,
            "datablockFiles": 0,
        }
        result |= dict(self._db.execute("SELECT collection, count(*) FROM documents GROUP BY collection").fetchall())
        for kind, count, files in self._db.execute("SELECT kind, count(*), sum(files) FROM blocks GROUP BY kind"):
            result[kind] = count
            result[f"{kind.removesuffix('s')}Files"] = files
        return result

    # -- data sets and jobs

    def get(self, collection: Collection, key: str) -> Document | None:
        """The document with this id, or None."""
        row = self._db.execute(
            "SELECT body FROM documents WHERE collection = ? AND id = ?",
            (collection, key),
        ).fetchone()
        return None if row is None else _document(row[0])

    def every(self, collection: Collection) -> list[Document]:
        """All documents in the order they were inserted in."""
        rows = self._db.execute("SELECT body FROM documents WHERE collection = ? ORDER BY seq", (collection,))
        return [_document(body) for (body,) in rows]

    def insert(self, collection: Collection, key: str, document: Document) -> None:
        """Add a document; raises DuplicateError if the id is taken."""
        try:
            self._db.execute(
                "INSERT INTO documents (collection, id, body) VALUES (?, ?, ?)",
                (collection, key, dumps(document)),
            )
        except sqlite3.IntegrityError as error:
            raise DuplicateError(key) from error

    def replace(self, collection: Collection, key: str, document: Document) -> None:
        """Overwrite the whole document with this id."""
        self._db.execute(
            "UPDATE documents SET body = ? WHERE collection = ? AND id = ?",
            (dumps(document), collection, key),
        )

    def delete(self, collection: Collection, key: str) -> None:
        """Remove the document with this id."""
        self._db.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (collection, key))

    # -- blocks

    def block(self, kind: BlockKind, key: str) -> Block | None:
        """The block with this ``_id``, or None."""
        row = self._db.execute("SELECT head, files FROM blocks WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        return None if row is None else Block(kind, _document(row[0]), row[1])

    def blocks(self, kind: BlockKind, dataset_id: str | None = None) -> list[Block]:
        """All blocks, or those of one data set, in the order they were inserted in."""
        if dataset_id is None:
            rows = self._db.execute("SELECT head, files FROM blocks WHERE kind = ? ORDER BY seq", (kind,))
        else:
            rows = self._db.execute(
                "SELECT head, files FROM blocks WHERE kind = ? AND dataset_id = ? ORDER BY seq",
                (kind, dataset_id),
            )
        return [Block(kind, _document(head), files) for head, files in rows]

    def file_list(self, key: str) -> str:
        """The ``dataFileList`` of the block with this ``_id`` as JSON text."""
        (text,) = self._db.execute("SELECT file_list FROM blocks WHERE id = ?", (key,)).fetchone()
        return str(text)

    def insert_block(self, kind: BlockKind, head: Document, files: Sequence[Document]) -> Block:
        """Add a block; raises DuplicateError if its archiveId is taken."""
        try:
            self._db.execute(
                "INSERT INTO blocks (kind, id, dataset_id, archive_id, files, head, file_list)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    kind,
                    head["_id"],
                    head["datasetId"],
                    head.get("archiveId"),
                    len(files),
                    dumps(head),
                    dumps(files),
                ),
            )
        except sqlite3.IntegrityError as error:
            raise DuplicateError(str(head.get("archiveId"))) from error
        return Block(kind, head, len(files))

    def replace_block(self, block: Block, head: Document, files: Sequence[Document] | None) -> Block:
        """Overwrite a block's head and, if given, its files; raises DuplicateError like ``insert_block``."""
        try:
            self._db.execute(
                "UPDATE blocks SET archive_id = ?, dataset_id = ?, head = ? WHERE id = ?",
                (head.get("archiveId"), head["datasetId"], dumps(head), block.id),
            )
        except sqlite3.IntegrityError as error:
            raise DuplicateError(str(head.get("archiveId"))) from error
        if files is not None:
            self._db.execute(
                "UPDATE blocks SET files = ?, file_list = ? WHERE id = ?",
                (len(files), dumps(files), block.id),
            )
        return Block(block.kind, head, block.files if files is None else len(files))

    def delete_blocks(self, blocks: Sequence[Block]) -> None:
        """Remove these blocks."""
        self._db.executemany("DELETE FROM blocks WHERE id = ?", [(block.id,) for block in blocks])


def _document(text: str) -> Document:
    value: Any = json.loads(text)
    assert isinstance(value, dict)  # noqa: S101 - only objects are ever stored
    return value
