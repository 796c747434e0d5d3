"""Bags on the share: what is there, what was left over, and how one is published.

Functions to be run in a child process (`archiver.workflow.isolation`); each does a whole piece of work, so that
one call is one conversation with the share.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from archiver.workflow.datablocks.bag import (
    BAG_INFO,
    BAGIT,
    BAGIT_TEXT,
    MANIFEST,
    TAG_MANIFEST,
    PayloadFile,
    bag_info,
    manifest,
    read_manifest,
    tag_manifest,
)
from archiver.workflow.datablocks.index import DatablockTotals, Member, read_index
from archiver.workflow.errors import ClaimLostError, PermanentError, UnsafeNameError
from archiver.workflow.isolation import Progress
from archiver.workflow.names import (
    DATASETS_FOLDER,
    PAYLOAD_FOLDER,
    RETIREMENT_FOLDER,
    TAG_FOLDER,
    bag_folder,
    datablock_name,
    parent_folders,
)
from archiver.workflow.storage.lts import TEMPORARY_MARK, LongTermStorage, ShareAddress
from archiver.workflow.tombstones import Event, newest_event
from archiver.workflow.transfer import check_turn

_COPY_CHUNK = 1024 * 1024
_OWN_FOLDERS = {"data", TAG_FOLDER, RETIREMENT_FOLDER}
_FOLDERS_OF_A_DATASET = {"data", "datablocks", TAG_FOLDER, RETIREMENT_FOLDER}
"""`datablocks` is the layout of the older service."""


def plan_path(pid: str) -> str:
    """Where the plan lies on the share."""
    return f"{bag_folder(pid)}/{TAG_FOLDER}/plan.jsonl"


def index_path(pid: str, index: int) -> str:
    """Where the index of a datablock lies on the share."""
    return f"{bag_folder(pid)}/{TAG_FOLDER}/{datablock_name(pid, index)}.jsonl"


def turn_path(pid: str) -> str:
    """Where the share says which attempt's turn it is, while a data set is being archived."""
    return f"{bag_folder(pid)}/{TAG_FOLDER}/turn{TEMPORARY_MARK}of"


def catalogue_path(pid: str) -> str:
    """Where the catalogue record lies on the share."""
    return f"{bag_folder(pid)}/{TAG_FOLDER}/catalogue.json"


def _bag_folders(pid: str) -> list[str]:
    bag = bag_folder(pid)
    return [bag, f"{bag}/{TAG_FOLDER}", f"{bag}/{PAYLOAD_FOLDER}"]


@dataclass(frozen=True, slots=True)
class BagState:
    """What lies on the share for a data set."""

    published: bool
    has_plan: bool
    datablocks: tuple[DatablockTotals, ...]
    """Datablocks that are complete (tar and index in place), by index."""
    event: Event | None = None
    """The newest of its retirement; None where it was never withdrawn."""


def _refuse_nested(share: LongTermStorage, pid: str) -> None:
    own = bag_folder(pid)
    for folder in parent_folders(own.removeprefix(DATASETS_FOLDER + "/")):
        names = {name for name, is_folder in share.names(f"{DATASETS_FOLDER}/{folder}") if is_folder}
        if names & _FOLDERS_OF_A_DATASET:
            raise UnsafeNameError(
                f"The pid {pid!r} lies inside the folder of the data set {folder!r}; the archive keeps each data set "
                "in a folder of its own. Give the data set another pid."
            )
    foreign = [name for name, is_folder in share.names(own) if is_folder and name not in _OWN_FOLDERS]
    if foreign:
        raise UnsafeNameError(
            f"The folder of the pid {pid!r} holds other data sets, or one archived by the older service; nothing was "
            "changed. Folders there:",
            foreign,
        )


def _lines(share: LongTermStorage, path: str) -> Iterator[str]:
    content = share.read_small(path)
    if content is None:
        raise PermanentError(f"{path} is missing on the long-term storage, though its datablock is there.")
    return iter(content.decode().splitlines())


def _totals(share: LongTermStorage, path: str) -> DatablockTotals:
    last = None
    for last in read_index(_lines(share, path)):  # noqa: B007  # only the last one is wanted
        pass
    if not isinstance(last, DatablockTotals):
        raise PermanentError(f"{path} is no index of a datablock.")
    return last


def inspect_bag(progress: Progress, address: ShareAddress, pid: str) -> BagState:
    """What lies on the share for `pid`.

    Raises:
        UnsafeNameError: its folder lies inside another data set's, or holds others.
        WrongShareError: another share is mounted.
    """
    share = address.open()
    _refuse_nested(share, pid)
    names = dict(share.names(bag_folder(pid)))
    event = newest_event(share, pid) if RETIREMENT_FOLDER in names else None
    tags = {name for name, _ in share.names(f"{bag_folder(pid)}/{TAG_FOLDER}")}
    found = []
    for index in range(len(tags)):
        progress(0)
        if f"{datablock_name(pid, index)}.jsonl" not in tags:
            continue
        totals = _totals(share, index_path(pid, index))
        if share.size(totals.archive_id) == totals.packed_size or BAGIT in names:
            found.append(totals)
    return BagState(BAGIT in names, "plan.jsonl" in tags, tuple(found), event)


def take_turn(progress: Progress, address: ShareAddress, pid: str, attempt: str, *, from_scratch: bool) -> list[str]:
    """From here on only this attempt puts files in place (see `check_turn`); what dead ones left is removed.

    That is unfinished files and, `from_scratch`, whatever else is not published. Only for the holder of the claim.
    Returns what was removed. Nothing happens to a published bag but that unfinished files go.

    Raises:
        ClaimLostError: it was published meanwhile, by a run that replaced this one; nothing of it was touched.
    """
    share = address.open()
    published = _is_published(share, pid)
    if not published:
        with share.create(turn_path(pid), attempt) as writer:
            writer.write(attempt.encode())
            writer.commit()
        _refuse_published(share, pid)
    removed: list[str] = []
    for folder in _bag_folders(pid):
        for name, is_folder in share.names(folder):
            path = f"{folder}/{name}"
            left_over = TEMPORARY_MARK in name or (from_scratch and not published)
            if is_folder or path == turn_path(pid) or not left_over:
                continue
            if not published:
                # A run that stood still here must not take what another has published since, and not yet sealed.
                _refuse_published(share, pid)
            if share.remove_unsealed(path):
                removed.append(path)
                progress(0)
    return removed


def _is_published(share: LongTermStorage, pid: str) -> bool:
    return share.size(f"{bag_folder(pid)}/{BAGIT}") is not None


def _refuse_published(share: LongTermStorage, pid: str) -> None:
    """A bag that was not published a moment ago still is not.

    Raises:
        ClaimLostError: it is; the turn that was taken is given back.
    """
    if _is_published(share, pid):
        share.remove_unsealed(turn_path(pid))
        raise ClaimLostError(f"{pid} was published meanwhile: another run has replaced this one, which must stop.")


def unfinished_files(progress: Progress, address: ShareAddress, pid: str) -> list[str]:
    """Files of a bag that are being written, or were when their attempt died."""
    share = address.open()
    found = []
    for folder in _bag_folders(pid):
        progress(0)
        for name, is_folder in share.names(folder):
            path = f"{folder}/{name}"
            if TEMPORARY_MARK in name and not is_folder and path != turn_path(pid):
                found.append(path)
    return found


def _chunks(progress: Progress, share: LongTermStorage, path: str) -> Iterator[memoryview]:
    """A file from its beginning; each chunk is valid until the next is asked for. `FileNotFoundError` without one."""
    with share.open(path) as reader:
        buffer = memoryview(bytearray(_COPY_CHUNK))
        offset = 0
        while count := reader.readinto(buffer, offset):
            yield buffer[:count]
            offset += count
            progress(0)


def fetch_plan(progress: Progress, address: ShareAddress, pid: str, target: Path) -> bool:
    """Copy the stored plan to a scratch file; False where there is none."""
    share = address.open()
    try:
        with target.open("wb") as copy:
            for chunk in _chunks(progress, share, plan_path(pid)):
                copy.write(chunk)
    except FileNotFoundError:
        return False
    return True


def store_plan(progress: Progress, address: ShareAddress, pid: str, source: Path, attempt: str) -> None:
    """Put the plan beside the data, for a later run to go on with.

    Raises:
        ClaimLostError: it is another attempt's turn.
    """
    with source.open("rb") as plan, address.open().create(plan_path(pid), attempt) as writer:
        while chunk := plan.read(_COPY_CHUNK):
            writer.write(chunk)
            progress(0)
        check_turn(address, turn_path(pid), attempt)
        writer.commit()


def read_members(progress: Progress, address: ShareAddress, pid: str, index: int) -> list[Member]:
    """Members of a datablock, as its index on the share says."""
    progress(0)
    records = read_index(_lines(address.open(), index_path(pid, index)))
    return [record for record in records if isinstance(record, Member)]


def free_space(progress: Progress, address: ShareAddress) -> tuple[int, int]:
    """Free and total bytes of the share."""
    progress(0)
    return address.open().free_bytes()


@dataclass(frozen=True, slots=True)
class BagContents:
    """All that goes into a bag besides its datablocks."""

    pid: str
    datablocks: tuple[DatablockTotals, ...]
    info: tuple[tuple[str, str], ...]
    """Fields of `bag-info.txt`."""
    catalogue_record: dict[str, object]


def prepare_bag(progress: Progress, address: ShareAddress, contents: BagContents, attempt: str) -> None:
    """Write the bag's tag files; only `bagit.txt` is missing afterwards.

    Raises:
        PermanentError: a datablock is not there with the size it was written with.
        ClaimLostError: it is another attempt's turn.
    """
    share = address.open()
    bag = bag_folder(contents.pid)
    payload = []
    for totals in contents.datablocks:
        if share.size(totals.archive_id) != totals.packed_size:
            raise PermanentError(f"{totals.archive_id} is not there as it was written; the data set is not published.")
        payload.append(PayloadFile(totals.archive_id.removeprefix(bag + "/"), totals.packed_size, totals.sha256))
    tags: dict[str, bytes] = {
        MANIFEST: manifest((file.sha256, file.path) for file in payload).encode(),
        BAG_INFO: bag_info(contents.info, payload).encode(),
        catalogue_path(contents.pid).removeprefix(bag + "/"): (
            json.dumps(contents.catalogue_record, indent=1, ensure_ascii=False, default=str) + "\n"
        ).encode("utf-8", "backslashreplace"),
    }
    checksums = {}
    for path, content in tags.items():
        _put(address, contents.pid, path, content, attempt)
        checksums[path] = hashlib.sha256(content).hexdigest()
        progress(0)
    for path in [plan_path(contents.pid), *(index_path(contents.pid, each.index) for each in contents.datablocks)]:
        checksums[path.removeprefix(bag + "/")] = _sha256_of(progress, share, path)
    _put(address, contents.pid, TAG_MANIFEST, tag_manifest(checksums).encode(), attempt)


def _sha256_of(progress: Progress, share: LongTermStorage, path: str) -> str:
    """In chunks: of a data set of very many files, plan and indexes together are too large for memory."""
    digest = hashlib.sha256()
    try:
        for chunk in _chunks(progress, share, path):
            digest.update(chunk)
    except FileNotFoundError as error:
        raise PermanentError(f"{path} is not there; the data set is not published.") from error
    return digest.hexdigest()


def _put(address: ShareAddress, pid: str, name: str, content: bytes, attempt: str) -> None:
    """Write a small file of the bag, or leave one that has this content already (an earlier run got as far).

    Raises:
        ClaimLostError: it is another attempt's turn.
    """
    share, path = address.open(), f"{bag_folder(pid)}/{name}"
    if share.read_small(path) == content:
        return
    with share.create(path, attempt) as writer:
        writer.write(content)
        check_turn(address, turn_path(pid), attempt)
        writer.commit()


def commit_bag(progress: Progress, address: ShareAddress, pid: str, attempt: str) -> None:
    """Publish: put `bagit.txt` in place. From here on the data set is archived, and all its files are read-only.

    Called again for a published bag it only makes sure of the latter. Afterwards it is nobody's turn any more.

    Raises:
        PermanentError: it does not read back; the data set is not published.
        ClaimLostError: it is another attempt's turn; nothing was published.
    """
    share = address.open()
    path = f"{bag_folder(pid)}/{BAGIT}"
    # An earlier run may have been killed between a rename and making it durable, and what it put there looks the same.
    for folder in _bag_folders(pid):
        share.keep_names(folder)
        progress(0)
    _put(address, pid, BAGIT, BAGIT_TEXT.encode(), attempt)
    share.keep_names(bag_folder(pid))
    progress(0)
    if share.read_small(path) != BAGIT_TEXT.encode():
        raise PermanentError(f"{path} does not read back as it was written; the data set is not published.")
    for folder in _bag_folders(pid):
        for name, is_folder in share.names(folder):
            if is_folder:
                continue
            if TEMPORARY_MARK in name:  # whose turn it was, and what a run that was replaced has begun since
                share.remove_unsealed(f"{folder}/{name}")
            else:
                share.seal(f"{folder}/{name}")
            progress(0)


@dataclass(frozen=True, slots=True)
class RecordedDatablock:
    """A datablock as the manifest of a published bag records it."""

    archive_id: str
    packed_size: int
    sha256: str


def recorded_datablocks(progress: Progress, address: ShareAddress, pid: str) -> list[RecordedDatablock]:
    """The datablocks of a published bag; empty where there is none.

    Sizes are those on the share now; a missing tar counts 0 bytes.
    """
    share = address.open()
    bag = bag_folder(pid)
    if share.size(f"{bag}/{BAGIT}") is None:
        return []
    content = share.read_small(f"{bag}/{MANIFEST}")
    found = []
    for path, sha256 in read_manifest((content or b"").decode()).items():
        progress(0)
        found.append(RecordedDatablock(f"{bag}/{path}", share.size(f"{bag}/{path}") or 0, sha256))
    return found
