"""Files out of a bag: found by the index, read from their place in the tar, checked while they are written.

To be run in a child process, as all that touches the share. What cannot be extracted is collected, not raised.
"""

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from archiver.workflow.datablocks.bag import TAG_MANIFEST, read_manifest
from archiver.workflow.datablocks.index import Member
from archiver.workflow.errors import DamagedError, PermanentError, TransientError, UnsafeNameError
from archiver.workflow.holdings.description import NotOnShareError, payload_of
from archiver.workflow.holdings.listing import HoldingState, look_at
from archiver.workflow.holdings.reading import Lines, chunks, folder_of, index_of, index_records, opened, read_tag_file
from archiver.workflow.holdings.target_folder import (
    CannotExtractError,
    ForeseenFolder,
    TargetFolder,
    TargetUnusableError,
)
from archiver.workflow.isolation import Progress
from archiver.workflow.names import check_file_path
from archiver.workflow.storage.lts import LongTermStorage, Reader, ShareAddress
from archiver.workflow.tombstones import newest_event, refuse_withdrawn


@dataclass(frozen=True, slots=True)
class ExtractOrder:
    """Which files of a bag go where."""

    share: ShareAddress
    pid: str
    target: Path
    patterns: tuple[str, ...] = ()
    """Paths, folders or shell patterns in which `*` matches `/` too; everything where there are none."""
    overwrite: bool = False
    dry_run: bool = False
    """Only the indexes are read, and nothing is written."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or folder that was not extracted, or something in the bag that kept others from it."""

    path: str
    reason: str


@dataclass(slots=True)
class Extraction:
    """What extracting came to."""

    files: int = 0
    folders: int = 0
    size: int = 0
    """Bytes of the files."""
    failures: list[Failure] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    """Patterns that no file or folder of the data set matches."""


class _Selection:
    """Which members are wanted."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [pattern.rstrip("/") or pattern for pattern in patterns]
        self._matched: set[str] = set()

    def takes(self, path: str) -> bool:
        matching = [pattern for pattern in self._patterns if self._matches(path, pattern)]
        self._matched.update(matching)
        return bool(matching) or not self._patterns

    @staticmethod
    def _matches(path: str, pattern: str) -> bool:
        return path == pattern or path.startswith(pattern + "/") or fnmatch.fnmatchcase(path, pattern)

    def unmatched(self) -> list[str]:
        return [pattern for pattern in self._patterns if pattern not in self._matched]


def extract(progress: Progress, order: ExtractOrder) -> Extraction:
    """Files of a published bag into a folder, with their times and modes. Progress counts bytes.

    Raises:
        NotOnShareError: there is no published bag of this pid.
        RetiredError: the data set was withdrawn.
        DamagedError: it has no readable manifest.
        TargetUnusableError: the folder cannot be written to, or lies on the share.
    """
    share = order.share.open()
    if order.target.resolve().is_relative_to(order.share.root.resolve()):
        raise TargetUnusableError(f"{order.target} lies on the share. Extract to a folder somewhere else.")
    folder = look_at(progress, share, order.pid)
    if folder.holding is not None and folder.holding.state.is_withdrawn:
        refuse_withdrawn(newest_event(share, order.pid))
    if folder.holding is None or folder.holding.state is not HoldingState.PUBLISHED:
        what = "not on the share" if folder.holding is None else f"on the share as {folder.holding.state} only"
        raise NotOnShareError(
            f"{order.pid} is {what}; files are extracted from published bags. Tars of the older service can be "
            "unpacked with 'tar -xf'."
        )
    if order.dry_run:
        return _BagExtraction(progress, share, order, ForeseenFolder(order.target, overwrite=order.overwrite)).run()
    with TargetFolder(order.target, overwrite=order.overwrite) as target:
        return _BagExtraction(progress, share, order, target).run()


class _Tar:
    """A datablock that is opened when its first byte is wanted; what fails once is not tried for every file."""

    def __init__(self, share: LongTermStorage, path: str) -> None:
        self._share = share
        self._path = path
        self._stack = ExitStack()
        self._reader: Reader | None = None
        self._failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, member: Member) -> Iterator[memoryview]:
        """The member's content, each chunk valid until the next is asked for.

        Raises:
            CannotExtractError: it cannot be read.
        """
        try:
            yield from chunks(self._opened(), member.offset, member.size)
        except (PermanentError, TransientError) as error:
            raise CannotExtractError(str(error)) from error

    def _opened(self) -> Reader:
        if self._failure:
            raise CannotExtractError(self._failure)
        if self._reader is None:
            try:
                self._reader = self._stack.enter_context(opened(self._share, self._path))
            except FileNotFoundError as error:
                self._failure = f"{self._path} is missing"
                raise CannotExtractError(self._failure) from error
            except (PermanentError, TransientError) as error:
                self._failure = str(error)
                raise
        return self._reader


class _BagExtraction:
    """One pass over a bag's indexes, and over the wanted bytes of its tars."""

    def __init__(
        self, progress: Progress, share: LongTermStorage, order: ExtractOrder, target: TargetFolder | ForeseenFolder
    ) -> None:
        self._progress = progress
        self._share = share
        self._folder = folder_of(order.pid)
        self._payload = payload_of(share, order.pid)
        self._overwrite = order.overwrite
        self._target = target
        self._selection = _Selection(order.patterns)
        self._folders: dict[str, tuple[Member, bool]] = {}
        """Every folder the indexes list, by path, and whether it is wanted itself."""
        self._done = Extraction()

    def run(self) -> Extraction:
        checksums = self._tag_checksums()
        for tar in self._payload:
            index = index_of(tar)
            try:
                sha256 = self._extract_datablock(tar, index)
            except FileNotFoundError:
                self._fail(index, f"it is missing, so the files in {tar} cannot be found. 'tar -xf' unpacks them.")
            except ValueError as error:
                reason = f"it cannot be read, so the rest of {tar} was left out: {error} 'tar -xf' unpacks it."
                self._fail(index, reason)
            except TargetUnusableError:
                raise
            except (PermanentError, TransientError) as error:
                self._fail(index, str(error))
            else:
                if checksums.get(index) != sha256:
                    self._fail(index, f"it is not what {TAG_MANIFEST} records; files were checked against it as it is.")
        self._restore_folders()
        self._done.unmatched = self._selection.unmatched()
        return self._done

    def _fail(self, path: str, reason: str) -> None:
        self._done.failures.append(Failure(path, reason))

    def _tag_checksums(self) -> dict[str, str]:
        try:
            return read_manifest(read_tag_file(self._share, f"{self._folder}/{TAG_MANIFEST}").decode())
        except (FileNotFoundError, UnicodeDecodeError, DamagedError):
            return {}  # every index then counts as not recorded

    def _extract_datablock(self, tar: str, index: str) -> str:
        """Extract what is wanted of one tar; SHA-256 of its index."""
        with (
            opened(self._share, f"{self._folder}/{index}") as reader,
            _Tar(self._share, f"{self._folder}/{tar}") as source,
        ):
            lines = Lines(self._progress, reader)
            for record in index_records(lines):
                if isinstance(record, Member):
                    self._extract_member(source, record)
            return lines.sha256

    def _extract_member(self, source: _Tar, member: Member) -> None:
        wanted = self._selection.takes(member.path)
        try:
            if member.is_folder:
                self._folders[check_file_path(member.path)] = (member, wanted)
                if wanted:
                    self._make_folder(member)
                    self._done.folders += 1
            elif wanted:
                self._make_file(source, member)
                self._done.files += 1
                self._done.size += member.size
        except (CannotExtractError, UnsafeNameError) as error:
            if wanted:
                self._fail(member.path, str(error))

    def _make_folder(self, member: Member) -> None:
        if isinstance(self._target, ForeseenFolder):
            self._target.check_folder(member.path)
        else:
            self._target.make_folder(member.path)

    def _make_file(self, source: _Tar, member: Member) -> None:
        if isinstance(self._target, ForeseenFolder):
            self._target.check_file(member.path)
            return
        with self._target.new_file(member.path, member.mode, member.mtime) as descriptor:
            self._copy(source, member, descriptor)

    def _copy(self, source: _Tar, member: Member, descriptor: int) -> None:
        digest = hashlib.sha256()
        size = 0
        for data in source.read(member):
            digest.update(data)
            size += len(data)
            view = data
            while view:
                view = view[os.write(descriptor, view) :]
            self._progress(len(data))
        if size < member.size:
            raise CannotExtractError("the tar ends before it does")
        if digest.hexdigest() != member.sha256:
            raise CannotExtractError(f"it is damaged: its SHA-256 is {digest.hexdigest()}, was {member.sha256}")

    def _restore_folders(self) -> None:
        """Writing into a folder changes its time, so this comes last; what is inside before what is outside."""
        if isinstance(self._target, ForeseenFolder):
            return
        for path in sorted(self._folders, reverse=True):
            member, wanted = self._folders[path]
            if not self._target.was_made(path) and not (wanted and self._overwrite):
                continue
            self._progress(0)
            try:
                self._target.restore_folder(path, member.mode, member.mtime)
            except CannotExtractError as error:
                self._fail(path, str(error))
