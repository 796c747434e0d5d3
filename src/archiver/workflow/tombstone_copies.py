"""Shares of copies made to say of a withdrawal what the first share says: also one that was away when it was made.

Events are only added, under the claim on the data set. A copy that knows more than the first share is left as it is,
and told; nothing of a bag is ever removed here.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from archiver.workflow.claims import claimed
from archiver.workflow.errors import ArchiverError, ClaimLostError, DamagedError, DatasetBusyError
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.second_copies import known_copies
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tombstones import Event, EventKind, find_event, foresee_event, note_event

log = structlog.get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


class _AwayError(Exception):
    """The share of a copy does not answer as it must; the cause says why."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of a data set, or of all of them, on the share of a copy."""

    root: Path
    event: Event | None = None
    """What the share says now, and did not before."""
    trouble: str = ""
    """What somebody must look at; empty where nothing is wrong."""
    is_away: bool = False
    """The share could not be looked at: no other data set of this walk is compared with it."""


def _agree(first: Event, copy: Event | None) -> bool:
    """A share that never heard of a withdrawal need not hear that it was taken back."""
    return first.kind is (EventKind.RESTORED if copy is None else copy.kind)


def _is_behind(first: Event, copy: Event | None) -> bool:
    """Whether the copy only lacks events: it has no more of them, and none that cannot be followed by this one."""
    return copy is None or (copy.number < first.number and (first.kind.is_final or not copy.kind.is_final))


class TombstoneCopies:
    """The use case, for one walk over the first share: a share of a copy that is away is given up for all of it."""

    def __init__(
        self,
        ledger: Ledger,
        child: ChildProcess,
        first: ShareAddress,
        roots: Sequence[Path],
        claim_timeout: timedelta,
        holder: str,
        *,
        dry_run: bool = False,
    ) -> None:
        """`roots` as LTS_COPIES names them; `holder` names who claims data sets here.

        A `dry_run` leaves the shares as they are, and says what they would learn.
        """
        self._ledger = ledger
        self._child = child
        self._first = first
        self._copies = known_copies(ledger, roots)
        self._claim_timeout = claim_timeout
        self._holder = holder
        self._dry_run = dry_run

    def follow(self, pid: str) -> Iterator[Followed]:
        """Make the copies of a data set that was ever withdrawn say what the first share says.

        One that a run works on is left to the next walk.

        Raises:
            ArchiverError: of the first share or the ledger.
        """
        for copy in tuple(self._copies):
            try:
                followed = self._follow(copy, pid)
            except _AwayError as away:
                self._copies.remove(copy)
                log.warning("tombstones_not_compared", root=str(copy.root), reason=str(away))
                trouble = f"what was withdrawn or restored could not be compared with the copies at {copy.root}: {away}"
                yield Followed(copy.root, trouble=trouble, is_away=True)
            except (DatasetBusyError, ClaimLostError):
                continue
            else:
                if followed is not None:
                    yield followed

    def _follow(self, copy: ShareAddress, pid: str) -> Followed | None:
        try:
            first, before = self._look(copy, pid)
            if first is None or _agree(first, before):
                return None
            with claimed(self._ledger, pid, self._holder, self._claim_timeout) as claim:
                first, before = self._look(copy, pid)  # again: an operator may have been at work
                if first is None or _agree(first, before):
                    return None
                if not _is_behind(first, before):
                    return Followed(copy.root, trouble=_differ(pid, copy, first, before))
                if self._dry_run:
                    after = self._ask(copy, foresee_event, first)
                else:
                    self._ledger.check_claim(claim)
                    after = self._ask(copy, note_event, first, uuid.uuid4().hex[:16])
        except DamagedError as error:
            return Followed(copy.root, trouble=f"on the share of copies at {copy.root}: {error}")
        if after == before:
            what = f"the copies at {copy.root} still hold files of {pid}, which was removed. To remove them there, too"
            return Followed(copy.root, trouble=f"{what}: archiver retire remove {pid}")
        if not self._dry_run:
            log.warning("tombstone_brought_along", pid=pid, root=str(copy.root), kind=first.kind)
        return Followed(copy.root, after)

    def _look(self, copy: ShareAddress, pid: str) -> tuple[Event | None, Event | None]:
        """The newest event on the first share, and that on the copy's."""
        return self._child.call(find_event, None, self._first, pid), self._ask(copy, find_event, pid)

    def _ask(
        self,
        copy: ShareAddress,
        function: Callable[Concatenate[Progress, ShareAddress, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """What the function answers for the share of a copy.

        Raises:
            DamagedError: an event there cannot be read.
            _AwayError: the share does not answer as it must.
        """
        try:
            return self._child.call(function, None, copy, *arguments, **named)
        except DamagedError:
            raise
        except ArchiverError as error:
            raise _AwayError(str(error)) from error


def _differ(pid: str, copy: ShareAddress, first: Event, before: Event | None) -> str:
    there = "nothing" if before is None else f"{before.kind} (event {before.number})"
    return (
        f"the copies at {copy.root} say of {pid}: {there}; the first share says: {first.kind} (event {first.number}). "
        "Neither was changed. Was a share restored from an older state? Bring archiver-retirement/ back from the newer."
    )
