"""The files in a tar checked against its index, while the tar's bytes pass."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from archiver.workflow.datablocks.index import Member
from archiver.workflow.errors import PermanentError, TransientError, UnsafeNameError
from archiver.workflow.holdings.damage import Damage, DamageKind
from archiver.workflow.holdings.reading import Lines, index_of, index_records, opened
from archiver.workflow.isolation import Progress
from archiver.workflow.names import check_file_path
from archiver.workflow.storage.lts import LongTermStorage


class MemberCheck:
    """Fed with a tar from its beginning, reports every member that is not what the index says.

    The index is read line by line alongside. Where it gives out, that is reported, and no more members are checked.
    """

    def __init__(
        self,
        progress: Progress,
        share: LongTermStorage,
        folder: str,
        tar: str,
        sha256: str,
        report: Callable[[Damage], None],
    ) -> None:
        """`tar` is the path in the bag that lies in `folder`, `sha256` what the manifest records for it."""
        self.checked = 0
        self._progress = progress
        self._share = share
        self._folder = folder
        self._tar = tar
        self._sha256 = sha256
        self._report = report
        self._stack = ExitStack()
        self._members: Iterator[Member] = iter(())
        self._current: Member | None = None
        self._digest = hashlib.sha256()
        self._end = 0

    def __enter__(self) -> Self:
        self._members = self._indexed()
        self._current = self._next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def feed(self, start: int, data: memoryview) -> None:
        """The tar's bytes from `start` on; to be called without gaps."""
        end = start + len(data)
        while (member := self._current) is not None:
            stop = member.offset + member.size
            if member.offset < end:
                self._digest.update(data[max(0, member.offset - start) : max(0, min(end, stop) - start)])
            if stop > end:
                return
            self._finish(member)

    def finish(self) -> None:
        """After the last bytes: what the tar is too short for."""
        while (member := self._current) is not None:
            self._report(Damage(self._tar, DamageKind.MISSING, "the tar ends before it does", member.path))
            self._current = self._next()

    def _finish(self, member: Member) -> None:
        found = self._digest.hexdigest()
        if found != member.sha256:
            detail = f"SHA-256 is {found}, was {member.sha256} ({member.size} bytes from offset {member.offset})"
            self._report(Damage(self._tar, DamageKind.ALTERED, detail, member.path))
        self.checked += 1
        self._current = self._next()

    def _next(self) -> Member | None:
        """The next file, with a fresh digest; None at the end of the index, or where it gives out."""
        self._digest = hashlib.sha256()
        try:
            return next((member for member in self._members if self._counts(member)), None)
        except FileNotFoundError:
            self._give_up(DamageKind.MISSING, "it is not there")
        except ValueError as error:
            self._give_up(DamageKind.ALTERED, str(error))
        except (PermanentError, TransientError) as error:
            self._give_up(DamageKind.UNREADABLE, str(error))
        return None

    def _counts(self, member: Member) -> bool:
        """Whether this is a file; its place is checked, and its name."""
        try:
            check_file_path(member.path)
        except UnsafeNameError as error:
            self._report(Damage(self._tar, DamageKind.UNSAFE, str(error), member.path))
        if member.is_folder:
            return False
        if member.offset < self._end:
            raise ValueError(f"from {member.path!r} on, its members are not in the order of the tar.")
        self._end = member.offset + member.size
        return True

    def _indexed(self) -> Iterator[Member]:
        reader = self._stack.enter_context(opened(self._share, f"{self._folder}/{index_of(self._tar)}"))
        for record in index_records(Lines(self._progress, reader)):
            if isinstance(record, Member):
                yield record
            elif (record.archive_id, record.sha256) != (f"{self._folder}/{self._tar}", self._sha256):
                detail = f"it is of {record.archive_id} with SHA-256 {record.sha256}, not of what the manifest lists"
                self._report(Damage(index_of(self._tar), DamageKind.ALTERED, detail))

    def _give_up(self, kind: DamageKind, detail: str) -> None:
        self._report(Damage(index_of(self._tar), kind, f"members of its tar cannot be checked: {detail}"))
