"""Which data sets lie on the share: found by walking its folders, without any database.

A folder whose tombstone says so is a withdrawn data set. Else one with `bagit.txt` is a published bag, one with the
folder of our tag files but without it an unfinished one, and a folder with `datablocks/` holds a data set of the older
service. Names come in batches, so that any number of data sets is listed in little memory.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from archiver.workflow.datablocks.bag import BAG_INFO, BAGIT, read_bag_info
from archiver.workflow.errors import DamagedError, PermanentError, UnsafeNameError
from archiver.workflow.holdings.reading import folder_of, read_tag_file
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.names import (
    DATASETS_FOLDER,
    PAYLOAD_FOLDER,
    RAW_FILES,
    RETIREMENT_FOLDER,
    TAG_FOLDER,
    TEMPORARY_MARK,
    check_file_path,
)
from archiver.workflow.storage.lts import LongTermStorage, ShareAddress
from archiver.workflow.tombstones import Event, EventKind, newest_event

OLDER_PAYLOAD_FOLDER = "datablocks"
"""Where the older service put its tars, in the data set's folder."""
ALSO_OLDER = "also holds datablocks of the older service"
"""Note of a data set with a bag."""
_INSIDE_A_DATASET = {"data", OLDER_PAYLOAD_FOLDER, TAG_FOLDER, RETIREMENT_FOLDER, RAW_FILES}
_BATCH = 200
_OXUM = re.compile(r"(\d{1,18})\.(\d{1,9})")


class HoldingState(StrEnum):
    """What a folder holds."""

    PUBLISHED = "published"
    UNFINISHED = "unfinished"
    """Work on it goes on, or was broken off; not archived."""
    OLDER = "older"
    """Of the older service: tars without a bag, so without anything to check them against."""
    RETIRED = "retired"
    """Withdrawn: the bag is whole, is not given out, and can be restored."""
    REMOVED = "removed"
    """Withdrawn for good: its bag is gone, or about to be."""
    UNREADABLE = "unreadable"

    @property
    def has_bag(self) -> bool:
        """Whether there must be a whole bag."""
        return self in (HoldingState.PUBLISHED, HoldingState.RETIRED)

    @property
    def is_withdrawn(self) -> bool:
        """Whether it is not to be given out."""
        return self in (HoldingState.RETIRED, HoldingState.REMOVED)


@dataclass(frozen=True, slots=True)
class Holding:
    """A data set on the share; numbers are None where the share does not tell them."""

    pid: str
    state: HoldingState
    files: int | None = None
    """Of the data set, as `bag-info.txt` says."""
    size: int | None = None
    """Bytes of the tars: as `bag-info.txt` says in a published bag, else of those that are there."""
    datablocks: int | None = None
    date: str | None = None
    """The bag's date, YYYY-MM-DD."""
    note: str = ""
    """What is odd about it."""
    event: EventKind | None = None
    """What was done last of withdrawing, restoring and removing it; None where it was never withdrawn."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What was seen in one folder."""

    path: str
    holding: Holding | None
    """None where it is no data set's."""
    is_parent: bool
    """Whether there are folders in it that could be data sets."""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _withdrawn(share: LongTermStorage, event: Event) -> Holding:
    until = f"; can be restored, until {event.restorable_until:%Y-%m-%d} at least"
    note = f"{event.kind} on {event.at:%Y-%m-%d} by {event.by}: {event.reason}{'' if event.kind.is_final else until}"
    if event.kind.is_final:
        return Holding(event.pid, HoldingState.REMOVED, event.files, note=note)
    found = _published(share, event.pid, also_older=False)
    return replace(found, state=HoldingState.RETIRED, note="; ".join(filter(None, (note, found.note))))


def _published(share: LongTermStorage, pid: str, *, also_older: bool) -> Holding:
    notes = [ALSO_OLDER] if also_older else []
    info: dict[str, str] = {}
    oxum = None
    try:
        info = read_bag_info(read_tag_file(share, f"{folder_of(pid)}/{BAG_INFO}").decode("utf-8", "replace"))
    except FileNotFoundError:
        notes.append(f"{BAG_INFO} is missing: verify it")
    except DamagedError as error:
        notes.append(str(error))
    else:
        oxum = _OXUM.fullmatch(info.get("Payload-Oxum", ""))
        if oxum is None:
            notes.append(f"{BAG_INFO} lacks the size of the payload: verify it")
    return Holding(
        pid,
        HoldingState.PUBLISHED,
        files=_number(info.get("Files")),
        size=int(oxum[1]) if oxum else None,
        datablocks=int(oxum[2]) if oxum else None,
        date=info.get("Bagging-Date"),
        note="; ".join(notes),
    )


def tars_in(progress: Progress, share: LongTermStorage, folder: str) -> list[tuple[str, int]]:
    """Paths (relative to the root) and bytes of the finished tars in a folder."""
    found = []
    for name, is_folder in share.names(folder):
        if not is_folder and name.endswith(".tar") and TEMPORARY_MARK not in name:
            progress(0)
            found.append((f"{folder}/{name}", share.size(f"{folder}/{name}") or 0))
    return found


def look_at(progress: Progress, share: LongTermStorage, pid: str) -> Folder:
    """What the folder of this pid (or of the first parts of one) holds."""
    path = folder_of(pid)
    try:
        names = share.names(path)
        folders = {name for name, is_folder in names if is_folder}
        files = {name for name, is_folder in names if not is_folder}
        holding: Holding | None = None
        event = newest_event(share, pid) if RETIREMENT_FOLDER in folders else None
        if event is not None and event.kind.is_withdrawn:
            holding = _withdrawn(share, event)
        elif BAGIT in files:
            holding = _published(share, pid, also_older=OLDER_PAYLOAD_FOLDER in folders)
        elif folders & {TAG_FOLDER, "data"}:
            tars = tars_in(progress, share, f"{path}/{PAYLOAD_FOLDER}")
            holding = Holding(pid, HoldingState.UNFINISHED, size=sum(size for _, size in tars), datablocks=len(tars))
        elif OLDER_PAYLOAD_FOLDER in folders:
            tars = tars_in(progress, share, f"{path}/{OLDER_PAYLOAD_FOLDER}")
            holding = Holding(pid, HoldingState.OLDER, size=sum(size for _, size in tars), datablocks=len(tars))
        if holding is not None and event is not None:
            holding = replace(holding, event=event.kind)
    except (PermanentError, UnsafeNameError) as error:
        # A name that is no UTF-8 can neither be kept in the ledger nor be shown: its odd bytes are spelled out.
        shown = pid.encode("utf-8", "backslashreplace").decode("utf-8")
        return Folder(path, Holding(shown, HoldingState.UNREADABLE, note=str(error)), is_parent=False)
    return Folder(path, holding, is_parent=bool(folders - _INSIDE_A_DATASET))


def look_into(progress: Progress, address: ShareAddress, pids: Sequence[str]) -> list[Folder]:
    """What the folders of these pids hold, in their order."""
    share = address.open()
    found = []
    for pid in pids:
        progress(0)
        found.append(look_at(progress, share, pid))
    return found


def subfolders(progress: Progress, address: ShareAddress, pid: str) -> list[str]:
    """Folders in that of `pid` (of all data sets, where it is empty) that could be data sets', sorted."""
    progress(0)
    path = folder_of(pid) if pid else DATASETS_FOLDER
    inside = _INSIDE_A_DATASET if pid else set()
    return [name for name, is_folder in address.open().names(path) if is_folder and name not in inside]


class Holdings:
    """The data sets on a share."""

    def __init__(self, child: ChildProcess, address: ShareAddress) -> None:
        self._child = child
        self._address = address

    def walk(self, below: str = "") -> Iterator[Holding]:
        """All data sets, or those whose pids begin with `below/`: by name, folder by folder.

        Raises:
            ArchiverError: the share does not answer, or is another one by now.
        """
        names = self._child.call(subfolders, None, self._address, below)
        prefix = f"{below}/" if below else ""
        for first in range(0, len(names), _BATCH):
            batch = [prefix + name for name in names[first : first + _BATCH]]
            for pid, folder in zip(batch, self._child.call(look_into, None, self._address, batch), strict=True):
                if folder.holding is not None:
                    yield folder.holding
                if folder.is_parent:
                    yield from self.walk(pid)

    def find(self, pid: str) -> Holding | None:
        """The data set of this pid; None where there is none.

        Raises:
            UnsafeNameError: the pid cannot name a folder.
            ArchiverError: of the share.
        """
        (folder,) = self._child.call(look_into, None, self._address, [check_file_path(pid)])
        return folder.holding
