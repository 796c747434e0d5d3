"""Tars of the older service: no bag, no index and no checksum of the tar, only those of its files in the catalogue.

Functions to be run in a child process (`archiver.workflow.isolation`). A tar is checked file by file while it is
copied. Single files are found by walking from header to header, which reads nothing of what lies between.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.config.settings import MEBIBYTE, ObjectStoreSettings
from archiver.workflow.datablocks.digests import new_digest
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.errors import DamagedError
from archiver.workflow.isolation import Progress
from archiver.workflow.selected_files import FoundFiles, FoundList
from archiver.workflow.storage.lts import Reader, ShareAddress
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.tar_upload import TarUpload
from archiver.workflow.transfer import opened_patiently

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_HEADERS = 4096
"""Read at once where only headers are wanted: most take a block or three of 512 bytes."""


@dataclass(frozen=True, slots=True)
class OlderTar:
    """A tar of the older service, and what the catalogue knows of files in it."""

    archive_id: str
    algorithm: str
    """Of the files' checksums, as `md5`."""
    members: Mapping[str, tuple[int, str]]
    """Size in bytes and checksum in hexadecimal (empty where there is none), by path."""


@dataclass(frozen=True, slots=True)
class OlderCopyOrder:
    """Bring a tar of the older service into a bucket, its files checked while they are read."""

    store: ObjectStoreSettings
    bucket: str
    share: ShareAddress
    tar: OlderTar
    """With all its files."""
    packed_size: int
    """Length of the tar when it was looked at."""
    workers: int
    window_bytes: int
    patience_s: float


@dataclass(frozen=True, slots=True)
class FindOlderOrder:
    """Find files in tars of the older service."""

    share: ShareAddress
    tars: tuple[OlderTar, ...]
    """Each with the files that are wanted of it."""
    found_list: Path
    patience_s: float


def measure_tars(progress: Progress, address: ShareAddress, archive_ids: Sequence[str]) -> dict[str, int]:
    """Length of each tar on the share, bytes.

    Raises:
        DamagedError: some are not there.
    """
    share = address.open()
    sizes = {}
    for archive_id in archive_ids:
        progress(0)
        sizes[archive_id] = share.size(archive_id)
    missing = [archive_id for archive_id, size in sizes.items() if size is None]
    if missing:
        raise DamagedError(
            "Datablocks are not on the long-term storage. Nothing was changed; look for them there, and in its backup:",
            missing,
        )
    return {archive_id: size for archive_id, size in sizes.items() if size is not None}


class _CopiedStream(io.RawIOBase):
    """A tar on the share as a stream; whatever is read of it goes into the upload too."""

    def __init__(self, reader: Reader, upload: TarUpload, size: int) -> None:
        self._reader = reader
        self._upload = upload
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        start = self._upload.offset
        count = self._reader.readinto(view[: max(0, min(len(view), self._size - start))], start)
        self._upload.write(view[:count])
        return count


class _HeaderStream(io.RawIOBase):
    """A tar on the share as a file in which one goes from header to header."""

    def __init__(self, reader: Reader, progress: Progress) -> None:
        self._reader = reader
        self._progress = progress
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._reader.size}[whence]
        self._offset = base + offset
        return self._offset

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        count = self._reader.readinto(view, self._offset)
        self._offset += count
        self._progress(0)
        return count


@contextmanager
def _readable(archive_id: str) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise DamagedError(
            f"{archive_id} on the long-term storage is no readable tar: {error}. Nothing was changed."
        ) from error


def _damaged(archive_id: str, wrong: Sequence[str]) -> DamagedError:
    return DamagedError(
        f"Files in {archive_id} on the long-term storage are missing or not what was archived. "
        "Nothing was changed. Files:",
        wrong,
    )


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, of which tarfile would keep every one in memory."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]  # known for long, and not in its stubs


def copy_older_datablock(progress: Progress, order: OlderCopyOrder) -> str:
    """Bring a tar into a bucket in one pass; its SHA-256. The object appears only when every file is right.

    Only for the holder of the claim on the copy.

    Raises:
        DamagedError: the tar is missing or cut off, lacks a file, or holds one that is not what was archived.
    """
    share = order.share.open()
    archive_id, expected = order.tar.archive_id, order.tar.members
    wrong: list[str] = []
    seen: set[str] = set()
    with ExitStack() as stack:
        store = stack.enter_context(ObjectStore.open(order.store, max_connections=order.workers + 1))
        reader = stack.enter_context(opened_patiently(share, archive_id, order.patience_s, progress))
        upload = stack.enter_context(
            TarUpload(
                progress,
                store,
                order.bucket,
                archive_id,
                order.packed_size,
                workers=order.workers,
                window=order.window_bytes,
            )
        )
        stream = _CopiedStream(reader, upload, order.packed_size)
        with _readable(archive_id), tarfile.open(fileobj=stream, mode="r|", bufsize=MEBIBYTE) as tar:
            for member in _members(tar):
                if member.name not in expected or not member.isfile():
                    continue
                seen.add(member.name)
                if not _is_right(tar, member, order.tar.algorithm, *expected[member.name]):
                    wrong.append(member.name)
        while stream.read(MEBIBYTE):
            pass  # what follows the end of the tar
        if wrong or len(seen) < len(expected):
            raise _damaged(archive_id, wrong + sorted(expected.keys() - seen))
        if reader.size != order.packed_size or upload.offset != order.packed_size:
            raise DamagedError(f"The length of {archive_id} changed while it was read. Look at the share.")
        sha256 = upload.finish()
        upload.complete()
    return sha256


def _is_right(tar: tarfile.TarFile, member: tarfile.TarInfo, algorithm: str, size: int, checksum: str) -> bool:
    content = tar.extractfile(member)
    if content is None or member.size != size:
        return False
    digest = new_digest(algorithm)
    while data := content.read(MEBIBYTE):
        digest.update(data)
    return not checksum or digest.hexdigest() == checksum.lower()


def find_older_files(progress: Progress, order: FindOlderOrder) -> FoundFiles:
    """Where in their tars the files lie, by the headers alone; what they hold is checked when it is copied.

    Raises:
        DamagedError: a tar is missing or cannot be read, or lacks a file, or has one of another size.
    """
    share = order.share.open()
    with FoundList(order.found_list) as found:
        for wanted in order.tars:
            seen: set[str] = set()
            wrong: list[str] = []
            with (
                opened_patiently(share, wanted.archive_id, order.patience_s, progress) as reader,
                _readable(wanted.archive_id),
                io.BufferedReader(_HeaderStream(reader, progress), _HEADERS) as buffered,
                tarfile.open(fileobj=buffered, mode="r:") as tar,
            ):
                for member in _members(tar):
                    if member.name not in wanted.members or member.name in seen or not member.isfile():
                        continue
                    seen.add(member.name)
                    size, checksum = wanted.members[member.name]
                    if member.size != size:
                        wrong.append(member.name)
                    found.add(wanted.archive_id, member.offset_data, _entry(member, wanted.algorithm, checksum))
                    if len(seen) == len(wanted.members):
                        break
            if wrong or len(seen) < len(wanted.members):
                raise _damaged(wanted.archive_id, wrong + sorted(wanted.members.keys() - seen))
        return found.summary(())


def _entry(member: tarfile.TarInfo, algorithm: str, checksum: str) -> Entry:
    return Entry(
        member.name,
        EntryKind.FILE,
        member.size,
        int(member.mtime),
        member.mode & 0o777,
        "",
        f"{algorithm}:{checksum.lower()}" if checksum else "",
    )
