"""Single files out of archived datablocks: found by the index, read from their place in the tar, packed into one tar.

Functions to be run in a child process (`archiver.workflow.isolation`). What was found is kept in a list in the scratch
folder, so that memory does not grow with the number of files.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from archiver.config.settings import ObjectStoreSettings
from archiver.workflow.datablocks.bag import TAG_MANIFEST, read_manifest
from archiver.workflow.datablocks.digests import new_digest
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.datablocks.index import Member
from archiver.workflow.datablocks.selection import Selection
from archiver.workflow.datablocks.tar import member_header, padding, trailer
from archiver.workflow.errors import DamagedError, UnsafeNameError
from archiver.workflow.holdings.description import payload_of
from archiver.workflow.holdings.reading import Lines, folder_of, index_of, index_records, opened, read_tag_file
from archiver.workflow.isolation import Progress
from archiver.workflow.names import check_file_path
from archiver.workflow.storage.lts import LongTermStorage, PosixShare, Reader, ShareAddress
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.tar_upload import TarUpload
from archiver.workflow.transfer import opened_patiently


@dataclass(frozen=True, slots=True)
class FindOrder:
    """Which files of a published bag are wanted."""

    share: ShareAddress
    pid: str
    names: tuple[str, ...]
    """Paths of files; that of a folder stands for all that lies in it."""
    found_list: Path
    """Where in the scratch folder what is found is noted."""


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What was found, and the tar it will make."""

    tars: tuple[str, ...]
    """archiveId of the datablocks it lies in."""
    files: int
    folders: int
    size: int
    """Sum of the files' sizes, bytes."""
    packed_size: int
    """Length of the tar that holds just these files, bytes."""
    not_found: tuple[str, ...]
    """Names that no file or folder of the data set has."""


@dataclass(frozen=True, slots=True)
class FilesCopyOrder:
    """Pack the files that were found into one tar in a bucket."""

    store: ObjectStoreSettings
    bucket: str
    key: str
    share: ShareAddress
    tars: tuple[str, ...]
    found_list: Path
    packed_size: int
    workers: int
    window_bytes: int
    patience_s: float


@dataclass
class FoundList:
    """Writes the list of what was found, and sums it up."""

    path: Path
    tars: list[str] = field(default_factory=list)
    files: int = 0
    folders: int = 0
    size: int = 0
    packed_size: int = 0

    def __enter__(self) -> Self:
        self._lines: TextIO = self.path.open("w", encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    def add(self, tar: str, offset: int, entry: Entry) -> None:
        """A member of `tar`, whose content begins at `offset`; `entry.checksum` is what it must have."""
        if not self.tars or self.tars[-1] != tar:
            self.tars.append(tar)
        self._lines.write(json.dumps([len(self.tars) - 1, offset, *entry]) + "\n")
        self.files += not entry.is_folder
        self.folders += entry.is_folder
        self.size += entry.size
        self.packed_size += len(member_header(entry)) + entry.size + len(padding(entry.size))

    def summary(self, not_found: tuple[str, ...]) -> FoundFiles:
        """What was found."""
        packed_size = self.packed_size + len(trailer(self.packed_size))
        return FoundFiles(tuple(self.tars), self.files, self.folders, self.size, packed_size, not_found)


def find_files(progress: Progress, order: FindOrder) -> FoundFiles:
    """Look the wanted files up in the indexes of the bag, each of which must be as its tag manifest records it.

    Raises:
        DamagedError: an index is missing, or not what was archived.
    """
    share = order.share.open()
    selection = Selection(order.names)
    folder = folder_of(order.pid)
    try:
        checksums = read_manifest(read_tag_file(share, f"{folder}/{TAG_MANIFEST}").decode())
    except FileNotFoundError as error:
        raise DamagedError(f"{folder}/{TAG_MANIFEST} is missing. Nothing was changed.") from error
    with FoundList(order.found_list) as found:
        for tar in payload_of(share, order.pid):
            index = index_of(tar)
            try:
                sha256 = _find_in(progress, share, folder, tar, selection, found)
            except (FileNotFoundError, ValueError, UnsafeNameError) as error:
                raise _unusable(f"{folder}/{index}") from error
            if checksums.get(index) != sha256:
                raise _unusable(f"{folder}/{index}")
        return found.summary(selection.not_found())


def _find_in(
    progress: Progress, share: LongTermStorage, folder: str, tar: str, selection: Selection, found: FoundList
) -> str:
    """Note the wanted members of one datablock; SHA-256 of its index."""
    with opened(share, f"{folder}/{index_of(tar)}") as reader:
        lines = Lines(progress, reader)
        for record in index_records(lines):
            if isinstance(record, Member) and selection.takes(record.path):
                check_file_path(record.path)
                checksum = "" if record.is_folder else f"sha256:{record.sha256}"
                kind = EntryKind(record.kind)
                entry = Entry(record.path, kind, record.size, record.mtime, record.mode, "", checksum)
                found.add(f"{folder}/{tar}", record.offset, entry)
        return lines.sha256


def _unusable(index: str) -> DamagedError:
    return DamagedError(
        f"{index} is missing or not what was archived, so single files cannot be found. Nothing was changed. "
        "Retrieve the whole data set, and see 'when the only copy is damaged' in the documentation."
    )


def _found(path: Path) -> Iterator[tuple[int, int, Entry]]:
    """(number of the tar, offset in it, member) of each line of the list."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            number, offset, name, kind, *rest = json.loads(line)
            yield number, offset, Entry(name, EntryKind(kind), *rest)


def copy_files(progress: Progress, order: FilesCopyOrder) -> str:
    """Pack the files that were found into one tar in the bucket; its SHA-256.

    Of the datablocks only these files are read, each checked meanwhile; the object appears only when all are right.

    Raises:
        DamagedError: files are missing, or not what was archived. Nothing is changed by itself.
    """
    share = order.share.open()
    wrong: list[str] = []
    with ExitStack() as stack:
        store = stack.enter_context(ObjectStore.open(order.store, max_connections=order.workers + 1))
        source = stack.enter_context(_Tars(progress, share, order))
        upload = stack.enter_context(
            TarUpload(
                progress,
                store,
                order.bucket,
                order.key,
                order.packed_size,
                workers=order.workers,
                window=order.window_bytes,
            )
        )
        for number, offset, entry in _found(order.found_list):
            upload.write(member_header(entry))
            if not _copied(source.opened(number), offset, entry, upload):
                wrong.append(entry.path)
            upload.write(padding(entry.size))
        upload.write(trailer(upload.offset))
        sha256 = upload.finish()
        if wrong:
            raise DamagedError(
                "Files on the long-term storage are not what was archived. Nothing was changed. "
                "See 'when the only copy is damaged' in the documentation. Files:",
                wrong,
            )
        upload.complete()
    return sha256


def _copied(reader: Reader, offset: int, entry: Entry, upload: TarUpload) -> bool:
    """Whether the content that was copied is that of `entry`."""
    algorithm, _, expected = entry.checksum.partition(":")
    digest = new_digest(algorithm or "sha256")
    for view in upload.space(entry.size):
        count = reader.readinto(view, offset)
        view[count:] = bytes(len(view) - count)  # of a tar that ends too early; its object will not appear
        digest.update(view)
        offset += len(view)
    return offset <= reader.size and (not expected or digest.hexdigest() == expected)


class _Tars:
    """The datablocks the files lie in, one open at a time."""

    def __init__(self, progress: Progress, share: PosixShare, order: FilesCopyOrder) -> None:
        self._progress = progress
        self._share = share
        self._order = order
        self._number = -1
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def opened(self, number: int) -> Reader:
        """That datablock, open for reading.

        Raises:
            DamagedError: it is not there.
        """
        if number != self._number:
            self._stack.close()
            self._number = number
            self._reader = self._stack.enter_context(
                opened_patiently(self._share, self._order.tars[number], self._order.patience_s, self._progress)
            )
        return self._reader
