"""Long-term storage: the contract every implementation keeps, and the POSIX share, the first of them.

The contract (tests/workflow/storage/test_lts.py runs it against every implementation):

* Paths are relative to the root, parts separated by `/`.
* A file appears under its final name complete or not at all: it is written under a temporary name unique to
  the attempt, made durable, renamed, and its folder made durable. No folder is ever moved.
* `seal`ed files are never overwritten; `set_aside` alone moves one, and `remove_withdrawn` alone removes one.
* A call that cannot do what it says raises: `NoSpaceError`, `TransientError` for what may pass (a stale file
  handle), `PermanentError` for what will not (read-only, input/output error).
* Any call may hang for as long as the share does: callers run them where they can be killed
  (`archiver.workflow.isolation`).
"""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from archiver.workflow.errors import (
    ArchiverError,
    NoSpaceError,
    PermanentError,
    TransientError,
    WrongShareError,
)
from archiver.workflow.names import TEMPORARY_MARK as TEMPORARY_MARK
from archiver.workflow.names import check_file_path

log = structlog.get_logger(__name__)

IDENTITY_FILE = ".archiver-share-identity"
SET_ASIDE_FOLDER = ".archiver-set-aside"
"""Files that were healed, as they were before; nothing removes them."""
_SEALED_MODE = 0o444
_TRANSIENT = {
    errno.ESTALE,
    errno.EAGAIN,
    errno.EINTR,
    errno.ETIMEDOUT,
    errno.EBUSY,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
}
_WRITE_OUT_EVERY = 32 * 1024**2
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Writer(Protocol):
    """A file being written; it becomes visible by `commit` and is gone without it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""

    def flush_to_medium(self) -> None:
        """Make durable what was written so far; an error of deferred writing shows here."""

    def commit(self) -> None:
        """Make the file durable and put it in place."""


class Reader(Protocol):
    """A file being read, from the medium rather than from a cache as far as the client can see to it."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def readinto(self, buffer: memoryview, offset: int) -> int:
        """Bytes read into `buffer` from `offset`: fewer than its length only at the end of the file."""


class LongTermStorage(Protocol):
    """What the archive needs of a long-term storage."""

    def identity(self) -> uuid.UUID:
        """The identity the storage was initialised with; `WrongShareError` where there is none."""

    def free_bytes(self) -> tuple[int, int]:
        """Free and total bytes."""

    def size(self, path: str) -> int | None:
        """Bytes of a file, or None where it does not exist."""

    def bytes_at_hand(self, path: str) -> int | None:
        """Bytes of a file that can be read without recalling it from tape, about; None where it does not exist."""

    def names(self, folder: str) -> list[tuple[str, bool]]:
        """Names in a folder, sorted, each with whether it is a folder; empty where it does not exist."""

    def read_small(self, path: str) -> bytes | None:
        """Content of a small file, or None where it does not exist."""

    def create(self, path: str, attempt: str) -> "WriterContext":
        """A file to be written by the attempt of this name; replaces an unsealed one."""

    def open(self, path: str) -> "ReaderContext":
        """A file to be read; `FileNotFoundError` where it does not exist."""

    def remove_unsealed(self, path: str) -> bool:
        """Remove a file unless it is sealed; whether it is gone."""

    def seal(self, path: str) -> None:
        """Make a file read-only for good."""

    def keep_names(self, folder: str) -> None:
        """Make durable which names a folder and all above it hold, whoever put them there; some may be missing."""

    def set_aside(self, path: str, attempt: str) -> str:
        """Move a file, sealed or not, out of the way, for another to take its place; where it is now.

        Only for healing a bag, on an operator's command.
        """

    def remove_withdrawn(self, path: str) -> None:
        """Remove a file for good, sealed or not; nothing happens where there is none.

        Only for a data set that was withdrawn, when its time is over, on an operator's command (`tombstones`).
        """

    def remove_empty_folder(self, path: str) -> None:
        """Remove a folder in which nothing is left; nothing happens where there is none, or where it holds anything."""


class WriterContext(Protocol):
    """A writer that is closed, and its unfinished file removed, when the block ends."""

    def __enter__(self) -> Writer: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...


class ReaderContext(Protocol):
    """A reader that is closed when the block ends."""

    def __enter__(self) -> Reader: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...


def _explain(error: OSError, doing: str) -> ArchiverError:
    text = f"{doing} failed: {error.strerror or error}."
    if error.errno in _FULL:
        return NoSpaceError(f"{text} Make space on the long-term storage; the run goes on by itself.")
    if error.errno in _TRANSIENT:
        return TransientError(f"{text} The share may be restarting; the run is tried again.")
    return PermanentError(f"{text} Look at the share and its mount before running the job again.")


@contextmanager
def _explained(doing: str, *, may_be_missing: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        raise _explain(error, doing) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def look_at(path: Path) -> os.stat_result | None:
    """What lies there (a link itself, not where it leads); None where nothing does.

    `Path.exists` and `Path.is_dir` also say no where they could not look, of a stale file handle, say (which errors, is
    up to the version of Python): a share that does not answer must never be taken for one on which there is nothing.

    Raises:
        OSError: nobody can tell.
    """
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _make_folders(folder: Path, root: Path) -> None:
    """Create `folder` and those above it below `root`, durably."""
    missing = []
    while folder != root and look_at(folder) is None:
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _sync_folder(each.parent)


@dataclass
class _PosixWriter:
    """Writes under a temporary name; see the module's contract."""

    root: Path
    final: Path
    temporary: Path
    _descriptor: int = -1
    _committed: bool = False
    _written: int = 0
    _on_its_way: int = 0
    """Bytes from the beginning that the kernel was asked to write out."""

    def __enter__(self) -> Self:
        with _explained(f"Creating {self.final.name} on the long-term storage"):
            _make_folders(self.final.parent, self.root)
            self._descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with _explained(f"Writing {self.final.name}"):
            view = memoryview(data)
            while view:
                count = os.write(self._descriptor, view)
                view = view[count:]
                self._written += count
            if self._written - self._on_its_way >= _WRITE_OUT_EVERY:
                # Left alone, the kernel would gather gigabytes and write them while the flush at the end waits.
                length = self._written - self._on_its_way
                os.posix_fadvise(self._descriptor, self._on_its_way, length, os.POSIX_FADV_DONTNEED)
                self._on_its_way = self._written

    def flush_to_medium(self) -> None:
        with _explained(f"Flushing {self.final.name}"):
            os.fdatasync(self._descriptor)

    def commit(self) -> None:
        with _explained(f"Putting {self.final.name} in place"):
            there = look_at(self.final)
            if there is not None and not _writable(there):
                raise PermanentError(f"{self.final.name} is published already and will not be overwritten.")
            os.fsync(self._descriptor)
            # The pages must not answer the read-back that follows.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)  # NFS may report a full disk only now
            self._rename()
            _sync_folder(self.final.parent)
            self._committed = True

    def _rename(self) -> None:
        """Rename; a reply that was lost on the way is settled by looking."""
        before = self.temporary.stat()
        try:
            self.temporary.replace(self.final)
        except FileNotFoundError:
            after = self.final.stat()
            if (after.st_ino, after.st_size) != (before.st_ino, before.st_size):
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            self._discard()

    def _discard(self) -> None:
        """Remove the unfinished file. What fails here must not hide why it is unfinished; others clear it later."""
        try:
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
        except OSError as failure:
            log.info("unfinished_file_not_closed", file=self.temporary.name, reason=failure.strerror)
        try:
            self.temporary.unlink(missing_ok=True)
        except OSError as failure:
            log.warning("unfinished_file_left", file=str(self.temporary), reason=failure.strerror)


@dataclass
class _PosixReader:
    path: Path
    _descriptor: int = -1
    size: int = 0

    def __enter__(self) -> Self:
        with _explained(f"Opening {self.path.name} on the long-term storage", may_be_missing=True):
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.size = os.fstat(self._descriptor).st_size
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            except OSError:
                os.close(self._descriptor)
                raise
        return self

    def readinto(self, buffer: memoryview, offset: int) -> int:
        done = 0
        with _explained(f"Reading {self.path.name}"):
            while done < len(buffer):
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                if count == 0:
                    break
                done += count
        return done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # What an audit or a retrieval read must not push out what others need.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(self._descriptor)


def _writable(there: os.stat_result) -> bool:
    """By its mode: root may write to everything, which is not what is asked."""
    return bool(there.st_mode & stat.S_IWUSR)


class PosixShare:
    """A mounted file system with atomic rename and close-to-open consistency (NFS, local disk)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, path: str) -> Path:
        return self.root / check_file_path(path)

    def identity(self) -> uuid.UUID:
        """UUID in the share's identity file.

        Raises:
            WrongShareError: there is none that can be read.
        """
        try:
            with _explained("Reading the share's identity", may_be_missing=True):
                return uuid.UUID((self.root / IDENTITY_FILE).read_text(encoding="ascii").strip())
        except (FileNotFoundError, ValueError) as error:
            raise WrongShareError(
                f"{self.root} has no readable identity file ({IDENTITY_FILE}): the share is not mounted, or it "
                "was never initialised. Mount it; initialise a new one with 'archiver lts init'."
            ) from error

    def free_bytes(self) -> tuple[int, int]:
        """Free and total bytes, as `statvfs` says."""
        with _explained("Asking the long-term storage for its free space"):
            numbers = os.statvfs(self.root)
        return numbers.f_bavail * numbers.f_frsize, numbers.f_blocks * numbers.f_frsize

    def size(self, path: str) -> int | None:
        """Length of a file, bytes; None where there is none."""
        try:
            with _explained(f"Looking for {path}", may_be_missing=True):
                return self._path(path).stat().st_size
        except FileNotFoundError:
            return None

    def bytes_at_hand(self, path: str) -> int | None:
        """Bytes in blocks on the disk: fewer than its size for a stub on tape, or a sparse file."""
        try:
            with _explained(f"Looking for {path}", may_be_missing=True):
                return self._path(path).stat().st_blocks * 512
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[tuple[str, bool]]:
        """Names in a folder and whether each is a folder, sorted; nothing where there is none."""
        try:
            with _explained(f"Listing {folder}", may_be_missing=True), os.scandir(self._path(folder)) as found:
                return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
        except FileNotFoundError:
            return []

    def read_small(self, path: str) -> bytes | None:
        """A whole file; None where there is none."""
        try:
            with _explained(f"Reading {path}", may_be_missing=True):
                return self._path(path).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, path: str, attempt: str) -> _PosixWriter:
        """A writer of `path` under a name of this attempt's own until it is committed."""
        final = self._path(path)
        return _PosixWriter(self.root, final, final.with_name(f"{final.name}{TEMPORARY_MARK}{attempt}"))

    def open(self, path: str) -> _PosixReader:
        """A reader of `path`."""
        return _PosixReader(self._path(path))

    def remove_unsealed(self, path: str) -> bool:
        """Remove a file that is not published; whether it is gone."""
        target = self._path(path)
        with _explained(f"Removing {path}"):
            there = look_at(target)
            if there is None:
                return True
            if not _writable(there):
                return False
            target.unlink(missing_ok=True)
            _sync_folder(target.parent)
            return True

    def seal(self, path: str) -> None:
        """Make a file read-only."""
        with _explained(f"Sealing {path}"):
            self._path(path).chmod(_SEALED_MODE)

    def keep_names(self, folder: str) -> None:
        """See `LongTermStorage.keep_names`."""
        target = self._path(folder)
        with _explained(f"Making the names in {folder} durable"):
            while True:
                if look_at(target) is not None:
                    _sync_folder(target)
                if target == self.root:
                    break
                target = target.parent

    def set_aside(self, path: str, attempt: str) -> str:
        """See `LongTermStorage.set_aside`."""
        with _explained(f"Setting {path} aside"):
            aside = f"{SET_ASIDE_FOLDER}/{check_file_path(attempt)}/{path}"
            source, target = self._path(path), self._path(aside)
            _make_folders(target.parent, self.root)
            source.rename(target)
            _sync_folder(target.parent)
            _sync_folder(source.parent)
            return aside

    def remove_withdrawn(self, path: str) -> None:
        """See `LongTermStorage.remove_withdrawn`."""
        target = self._path(path)
        with _explained(f"Removing {path}"):
            if look_at(target) is not None:
                target.unlink(missing_ok=True)
                _sync_folder(target.parent)

    def remove_empty_folder(self, path: str) -> None:
        """See `LongTermStorage.remove_empty_folder`."""
        target = self._path(path)
        with _explained(f"Removing the folder {path}"):
            there = look_at(target)
            if there is not None and stat.S_ISDIR(there.st_mode) and not any(target.iterdir()):
                target.rmdir()
                _sync_folder(target.parent)


def lacks_identity(root: Path) -> bool:
    """Whether `initialise_share` would give the share an identity. Nothing is changed.

    Raises:
        PermanentError: the folder does not exist.
        ArchiverError: it cannot be looked at.
    """
    try:
        with _explained(f"Looking at {root}", may_be_missing=True):
            is_folder = stat.S_ISDIR(root.stat().st_mode)
            has_identity = is_folder and look_at(root / IDENTITY_FILE) is not None
    except FileNotFoundError:
        is_folder = has_identity = False
    if not is_folder:
        raise PermanentError(f"{root} does not exist. Mount the share (or create the folder) first.")
    return not has_identity


def initialise_share(root: Path) -> uuid.UUID:
    """Give a share its identity; one that has an identity keeps it.

    Raises:
        PermanentError: the folder does not exist or cannot be written to.
    """
    share = PosixShare(root)
    if lacks_identity(root):
        with share.create(IDENTITY_FILE, uuid.uuid4().hex) as writer:
            writer.write(f"{uuid.uuid4()}\n".encode())
            writer.commit()
        share.seal(IDENTITY_FILE)
    return share.identity()


@dataclass(frozen=True, slots=True)
class ShareAddress:
    """Where the share is mounted, and which one must be mounted there."""

    root: Path
    identity: uuid.UUID

    def open(self) -> PosixShare:
        """The share, when it is the one that must be mounted.

        Raises:
            WrongShareError: another share is mounted, or none.
        """
        share = PosixShare(self.root)
        found = share.identity()
        if found != self.identity:
            raise WrongShareError(
                f"The share mounted at {self.root} is {found}; this archive lives on {self.identity}. "
                "Mount the right one."
            )
        return share
