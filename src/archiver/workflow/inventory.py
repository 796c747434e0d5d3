"""What the catalogue lists against what lies in the landing zone.

Both lists may hold 400,000 files: they are kept in a scratch SQLite file, so that memory does not grow with them.
"""

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Self

from archiver.workflow.catalogue.models import OrigFile
from archiver.workflow.datablocks.entries import (
    DEFAULT_FILE_MODE,
    DEFAULT_FOLDER_MODE,
    Entry,
    EntryKind,
    parse_mode,
    parse_time,
)
from archiver.workflow.errors import (
    EmptyDatasetError,
    MissingFilesError,
    UnsafeNameError,
    UserError,
    WrongSizeError,
)
from archiver.workflow.names import check_file_path, file_path_of_key
from archiver.workflow.storage.s3_records import StoredObject

_CACHE_KIB = 16 * 1024
_SCHEMA = """
CREATE TABLE listed (path TEXT PRIMARY KEY, kind TEXT, size INTEGER, mtime INTEGER, mode INTEGER, checksum TEXT,
                     twice INTEGER DEFAULT 0) WITHOUT ROWID;
CREATE TABLE landed (path TEXT PRIMARY KEY, size INTEGER, etag TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the two lists differ, and what is there in all."""

    files: int
    """Files in the landing zone."""
    payload_bytes: int
    extra: tuple[str, ...]
    """Files nobody listed; they are archived, and reported."""


_ALGORITHMS = {name.replace("_", ""): name for name in hashlib.algorithms_guaranteed if "shake" not in name}
"""By their names without punctuation. Those of no fixed length (SHAKE) are nobody's record of a file."""


def _checksum(file: OrigFile) -> str:
    algorithm = _ALGORITHMS.get(re.sub(r"[\s_-]", "", file.chk_alg or "").lower())
    checksum = (file.chk or "").strip().lower()
    return f"{algorithm}:{checksum}" if algorithm and checksum else ""


def _mode(kind: str, listed: int | None) -> int:
    if kind == EntryKind.LINK:
        return DEFAULT_FILE_MODE  # a link's own bits say nothing about its target
    if listed is None:
        return DEFAULT_FOLDER_MODE if kind == EntryKind.FOLDER else DEFAULT_FILE_MODE
    return listed


class Inventory:
    """Two lists of one data set, side by side, in a file of its own."""

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self._database = sqlite3.connect(file)
        # A scratch file: after a crash it is made anew. Nothing is committed, so what fits the cache is never written.
        self._database.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{_CACHE_KIB};" + _SCHEMA
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add_listed(self, files: Iterable[OrigFile]) -> None:
        """What the catalogue lists.

        Raises:
            UnsafeNameError: a name that must not become a path.
        """

        def rows() -> Iterator[tuple[str, str, int, int | None, int | None, str]]:
            for file in files:
                kind, mode = parse_mode(file.perm)
                if (file.type or "").lower() in {"directory", "folder", "dir"}:
                    kind = EntryKind.FOLDER
                path = file.path.removeprefix("./")
                if kind is EntryKind.FOLDER:
                    path = path.rstrip("/")
                    if path in {"", "."}:
                        continue  # the data set's own folder
                size = 0 if kind is EntryKind.FOLDER else int(file.size)
                yield check_file_path(path), kind, size, parse_time(file.time), mode, _checksum(file)

        self._database.executemany(
            "INSERT INTO listed (path, kind, size, mtime, mode, checksum) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET twice = twice OR size <> excluded.size OR kind <> excluded.kind "
            "OR (checksum <> excluded.checksum AND checksum <> '' AND excluded.checksum <> '' "
            "AND substr(checksum, 1, instr(checksum, ':')) "
            "= substr(excluded.checksum, 1, instr(excluded.checksum, ':'))), "
            "checksum = iif(checksum = '', excluded.checksum, checksum)",
            rows(),
        )

    def add_landed(self, pid: str, objects: Iterable[StoredObject]) -> None:
        """What lies in the landing zone under the data set's prefix."""
        self._database.executemany(
            "INSERT INTO landed VALUES (?, ?, ?)",
            ((file_path_of_key(pid, each.key), each.size, each.etag) for each in objects),
        )

    def _paths(self, query: str) -> list[str]:
        with closing(self._database.execute(query)) as found:
            return [path for (path,) in found]

    def compare(self) -> Comparison:
        """How the lists differ, when they agree well enough to archive.

        Raises:
            EmptyDatasetError: no file is listed.
            MissingFilesError: listed files are not there.
            WrongSizeError: files have another size than listed, or are listed twice, with different sizes, types or
                checksums.
            UnsafeNameError: one path is a file and a folder at once.
        """
        listed, landed, payload = self._database.execute(
            "SELECT (SELECT count(*) FROM listed WHERE kind <> 'folder'), count(*), coalesce(sum(size), 0) FROM landed"
        ).fetchone()
        if not listed:
            raise EmptyDatasetError(
                "The catalogue lists no files for this data set. Register its files (origdatablocks), then "
                "archive it again."
            )
        self._refuse(
            MissingFilesError,
            "Files of the catalogue's list are not in the landing zone: upload them, then archive again. Missing:",
            "SELECT path FROM listed LEFT JOIN landed USING (path) "
            "WHERE kind <> 'folder' AND landed.path IS NULL ORDER BY path",
        )
        self._refuse(
            WrongSizeError,
            "The catalogue lists these files twice, with different sizes, types or checksums: correct the list. Files:",
            "SELECT path FROM listed WHERE twice ORDER BY path",
        )
        self._refuse(
            WrongSizeError,
            "Files in the landing zone have another size than the catalogue lists: upload them again (or correct "
            "the list), then archive again. Files:",
            "SELECT path FROM listed JOIN landed USING (path) "
            "WHERE kind = 'file' AND listed.size <> landed.size ORDER BY path",
        )
        self._refuse(
            UnsafeNameError,
            "These names are a file and a folder at once: rename one of each pair. Names:",
            # Whatever lies below a file's name makes it a folder too ('0' is the character after '/').
            "SELECT path FROM landed WHERE path IN (SELECT path FROM listed WHERE kind = 'folder') "
            "OR EXISTS (SELECT 1 FROM landed AS below WHERE below.path > landed.path || '/' "
            "AND below.path < landed.path || '0') "
            "OR EXISTS (SELECT 1 FROM listed AS below WHERE below.path > landed.path || '/' "
            "AND below.path < landed.path || '0') ORDER BY path",
        )
        extra = self._paths(
            "SELECT path FROM landed LEFT JOIN listed USING (path) WHERE listed.path IS NULL ORDER BY path"
        )
        return Comparison(files=landed, payload_bytes=payload, extra=tuple(extra))

    def _refuse(self, kind: type[UserError], message: str, query: str) -> None:
        names = self._paths(query)
        if names:
            raise kind(message, names)

    def entries(self, default_mtime: int) -> Iterator[Entry]:
        """Everything to archive, sorted by path (as UTF-8), with the catalogue's times and modes.

        `default_mtime` (seconds since 1970) is for entries without a listed time.
        """
        for entry, has_time in self._entries():
            yield entry if has_time else entry._replace(mtime=default_mtime)

    def _entries(self) -> Iterator[tuple[Entry, bool]]:
        """Each entry, and whether the catalogue lists its time."""
        query = (
            "SELECT path, coalesce(kind, 'file'), coalesce(landed.size, 0), mtime, mode, coalesce(etag, ''), "
            "coalesce(checksum, '') FROM landed LEFT JOIN listed USING (path) "
            "UNION ALL SELECT path, kind, 0, mtime, mode, '', '' FROM listed WHERE kind = 'folder' ORDER BY path"
        )
        with closing(self._database.execute(query)) as rows:
            for path, kind, size, mtime, mode, etag, checksum in rows:
                yield (
                    Entry(path, EntryKind(kind), size, mtime or 0, _mode(kind, mode), etag, checksum),
                    mtime is not None,
                )

    def matches(self, planned: Iterable[Entry]) -> bool:
        """Whether a plan made now would be `planned`: the same objects, in the same versions, listed in the same way.

        Where the catalogue lists no time, the plan has that of its making.
        """
        for entry, before in zip_longest(self._entries(), planned):
            if entry is None or before is None:
                return False
            expected, has_time = entry
            if before != (expected if has_time else expected._replace(mtime=before.mtime)):
                return False
        return True

    def is_empty(self) -> bool:
        """Whether nothing lies in the landing zone, or all of it was taken."""
        return self._database.execute("SELECT 1 FROM landed LIMIT 1").fetchone() is None

    def take(self, path: str) -> tuple[int, str] | None:
        """Size and ETag of what lies at `path`, striking it off the list; None where nothing does."""
        with closing(
            self._database.execute("DELETE FROM landed WHERE path = ? RETURNING size, etag", (path,))
        ) as found:
            row = found.fetchone()
        return None if row is None else (row[0], row[1])

    def paths(self) -> list[str]:
        """Paths that lie in the landing zone and were not taken, sorted."""
        return self._paths("SELECT path FROM landed ORDER BY path")
