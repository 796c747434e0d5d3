"""What the share itself says of a withdrawn data set: events, one small sealed file each, in a folder of its bag.

    archiver-retirement/0001-retired.json      withdrawn: the bag is whole and can be restored
    archiver-retirement/0002-restored.json     as if nothing had happened
    archiver-retirement/0003-retired.json
    archiver-retirement/0004-removing.json     from here on nothing is restored: the bag's files go
    archiver-retirement/0005-removed.json      they are gone

The newest event counts. None is ever changed or removed, not even with the bag: a data set is never gone without a
trace. The events are no part of the bag (no manifest lists them), so a bag that is restored is what it was.

Functions that take `progress` are to be run in a child process (`archiver.workflow.isolation`).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from archiver.workflow.datablocks.bag import BAGIT
from archiver.workflow.errors import DamagedError, PermanentError, RetiredError
from archiver.workflow.isolation import Progress
from archiver.workflow.names import (
    DATASETS_FOLDER,
    PAYLOAD_FOLDER,
    RETIREMENT_FOLDER,
    TAG_FOLDER,
    TEMPORARY_MARK,
    bag_folder,
)
from archiver.workflow.storage.lts import LongTermStorage, ShareAddress

_EVENT = re.compile(r"(\d{4})-(retired|restored|removing|removed)\.json")
_MOST_EVENTS = 9999


class EventKind(StrEnum):
    """What was done to a data set."""

    RETIRED = "retired"
    RESTORED = "restored"
    REMOVING = "removing"
    REMOVED = "removed"

    @property
    def is_withdrawn(self) -> bool:
        """Whether the data set is not to be given out."""
        return self is not EventKind.RESTORED

    @property
    def is_final(self) -> bool:
        """Whether it can no longer be restored."""
        return self in (EventKind.REMOVING, EventKind.REMOVED)


@dataclass(frozen=True, slots=True)
class RecordedTar:
    """A datablock of the bag as it was when it was withdrawn."""

    archive_id: str
    packed_size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Event:
    """What was done, when, by whom and why. Every event tells all that those before it told of the bag."""

    pid: str
    kind: EventKind
    at: datetime
    by: str
    reason: str
    restorable_until: datetime
    """Until then nothing may be removed."""
    files: int
    payload_bytes: int
    datablocks: tuple[RecordedTar, ...]
    number: int = 0
    """Of the event; 0 before it is on a share."""

    def then(self, kind: EventKind, at: datetime, by: str) -> "Event":
        """The event that follows this one."""
        return replace(self, kind=kind, at=at, by=by, number=0)

    @property
    def message(self) -> str:
        """What users and operators are told, with what to do."""
        day, why = f"{self.at:%Y-%m-%d}", f" ({self.reason})" if self.reason else ""
        anew = "Data under this name cannot be archived again; upload them as a new data set."
        return {
            EventKind.RETIRED: f"{self.pid} was withdrawn from the archive on {day}{why}. Its data are kept until "
            f"{self.restorable_until:%Y-%m-%d} at least: ask the operators to restore it "
            f"(archiver retire restore {self.pid}), then submit the job again.",
            EventKind.RESTORED: f"{self.pid} was restored on {day}.",
            EventKind.REMOVING: f"{self.pid} was withdrawn from the archive{why} and is being removed since {day}: it "
            f"cannot be restored. {anew}",
            EventKind.REMOVED: f"{self.pid} was withdrawn from the archive{why} and removed on {day}: it cannot be "
            f"restored. {anew}",
        }[self.kind]


def refuse_withdrawn(event: Event | None) -> None:
    """Returns for a data set that is not withdrawn.

    Raises:
        RetiredError: it is.
    """
    if event is not None and event.kind.is_withdrawn:
        raise RetiredError(event.message)


def _folder(pid: str) -> str:
    # Also for pids as older services had them: whether it is a safe path is checked by the storage.
    return f"{DATASETS_FOLDER}/{pid}/{RETIREMENT_FOLDER}"


def _document(event: Event) -> bytes:
    document = asdict(event)
    del document["number"]
    document["at"] = event.at.isoformat()
    document["restorable_until"] = event.restorable_until.isoformat()
    document["message"] = event.message
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _moment(text: Any) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found.astimezone(UTC)


def _read(share: LongTermStorage, pid: str, number: int, kind: EventKind) -> Event:
    path = f"{_folder(pid)}/{number:04}-{kind}.json"
    try:
        found = json.loads(share.read_small(path) or b"")
        return Event(
            pid={pid: pid}[found["pid"]],  # or it is of another data set
            kind={str(kind): kind}[found["kind"]],
            at=_moment(found["at"]),
            by=str(found["by"]),
            reason=str(found["reason"]),
            restorable_until=_moment(found["restorable_until"]),
            files=int(found["files"]),
            payload_bytes=int(found["payload_bytes"]),
            datablocks=tuple(
                RecordedTar(str(each["archive_id"]), int(each["packed_size"]), str(each["sha256"]))
                for each in found["datablocks"]
            ),
            number=number,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{path} says that {pid} is {kind} and cannot be read: {error!r}. Nothing is done with this data set "
            "until that file is mended."
        ) from error


def newest_event(share: LongTermStorage, pid: str) -> Event | None:
    """The event that counts; None for a data set that was never withdrawn.

    Raises:
        DamagedError: it cannot be read, or there are two.
    """
    matches = [match for name, _ in share.names(_folder(pid)) if (match := _EVENT.fullmatch(name))]
    if not matches:
        return None
    number = max(int(match[1]) for match in matches)
    newest, *others = [match for match in matches if int(match[1]) == number]
    if others:
        both = " and ".join(match[0] for match in (newest, *others))
        raise DamagedError(
            f"Two events of {pid} carry the number {number}: {both} in {_folder(pid)}. Two operators were at work at "
            "once, and which of them counts is not known. Nothing is done with this data set until one is left: see in "
            "both by whom and when, move the one that must not count out of the folder, and give the command for the "
            "other one again."
        )
    return _read(share, pid, number, EventKind(newest[2]))


def find_event(progress: Progress, address: ShareAddress, pid: str) -> Event | None:
    """The event that counts, on the share at `address`."""
    progress(0)
    return newest_event(address.open(), pid)


def note_event(progress: Progress, address: ShareAddress, event: Event, attempt: str) -> Event | None:
    """Make `event` the one that counts, unless one of its kind or a later one does; the one that counts then.

    What is removed stays so, and a share that never heard of a withdrawal need not hear that it was taken back. None
    says `removed` of a bag that is still there: it is `removing` then.

    Only for the holder of the claim on the data set.

    Raises:
        PermanentError: there is no room for another event.
        DamagedError: another one got the same number at the same time.
        ArchiverError: of the share; the event may count or not.
    """
    share, folder = address.open(), _folder(event.pid)
    for name, is_folder in share.names(folder):
        if TEMPORARY_MARK in name and not is_folder:  # of an attempt that died
            share.remove_unsealed(f"{folder}/{name}")
    before = newest_event(share, event.pid)
    progress(0)
    wanted = _next_event(share, before, event)
    if wanted is None:
        return None
    event = wanted
    if before is None or event is not before:
        number = 1 if before is None else before.number + 1
        if number > _MOST_EVENTS:
            raise PermanentError(f"{folder} is full: {_MOST_EVENTS} events are as many as one data set can have.")
        with share.create(f"{folder}/{number:04}-{event.kind}.json", attempt) as writer:
            writer.write(_document(event))
            writer.commit()
        newest_event(share, event.pid)  # a list of names that was old may have hidden what another operator did
        before = _read(share, event.pid, number, event.kind)
    share.seal(f"{folder}/{before.number:04}-{before.kind}.json")
    return before


def foresee_event(progress: Progress, address: ShareAddress, event: Event) -> Event | None:
    """The event that would count after `note_event`, which is not called: nothing is changed.

    Raises:
        DamagedError: what counts now cannot be read.
        ArchiverError: of the share.
    """
    share = address.open()
    progress(0)
    return _next_event(share, newest_event(share, event.pid), event)


def _next_event(share: LongTermStorage, before: Event | None, event: Event) -> Event | None:
    """What counts when `event` comes after `before`: that itself where it is of the same kind or a later one."""
    if before is None and event.kind is EventKind.RESTORED:
        return None
    if event.kind is EventKind.REMOVED and _holds_bag(share, event.pid):
        event = event.then(EventKind.REMOVING, event.at, event.by)
    done = {event.kind} | ({EventKind.REMOVED} if event.kind is EventKind.REMOVING else set())
    return before if before is not None and before.kind in done else event


def _holds_bag(share: LongTermStorage, pid: str) -> bool:
    bag = bag_folder(pid)
    tars = (name for name, _ in share.names(f"{bag}/{PAYLOAD_FOLDER}") if name.endswith(".tar"))
    return share.size(f"{bag}/{BAGIT}") is not None or any(tars)


def _files_below(share: LongTermStorage, folder: str) -> Iterator[str]:
    for name, is_folder in share.names(folder):
        if is_folder:
            yield from _files_below(share, f"{folder}/{name}")
        else:
            yield f"{folder}/{name}"


def remove_bag(progress: Progress, address: ShareAddress, pid: str) -> int:
    """Remove the files of a bag, all but the events; how many. Can be broken off anywhere and called again.

    First goes what makes it a bag: nobody takes half of one for a whole.

    Raises:
        PermanentError: no event on this share says that it is being removed.
    """
    share, bag = address.open(), bag_folder(pid)
    event = newest_event(share, pid)
    if event is not None and event.kind is EventKind.REMOVED:
        return 0
    if event is None or event.kind is not EventKind.REMOVING:
        raise PermanentError(f"No event on the share at {address.root} says that {pid} is being removed; it was kept.")
    removed = 0
    folders = [f"{bag}/data", f"{bag}/{TAG_FOLDER}"]
    own = [f"{bag}/{name}" for name, is_folder in share.names(bag) if not is_folder]
    own.sort(key=lambda path: path != f"{bag}/{BAGIT}")
    for path in own + [path for folder in folders for path in _files_below(share, folder)]:
        share.remove_withdrawn(path)
        progress(0)
        removed += 1
    for folder in (f"{bag}/{PAYLOAD_FOLDER}", *folders):
        share.remove_empty_folder(folder)
        progress(0)
    return removed
