"""What one data set on the share consists of, by what the share says itself. Nothing is checked here."""

from contextlib import suppress
from dataclasses import dataclass

from archiver.workflow.datablocks.bag import BAG_INFO, MANIFEST, read_bag_info, read_manifest
from archiver.workflow.datablocks.index import Member
from archiver.workflow.errors import DamagedError, PermanentError, UnsafeNameError, UserError
from archiver.workflow.holdings.listing import OLDER_PAYLOAD_FOLDER, Holding, HoldingState, look_at, tars_in
from archiver.workflow.holdings.reading import (
    Lines,
    datablock_number,
    folder_of,
    index_of,
    index_records,
    opened,
    read_tag_file,
    read_totals,
)
from archiver.workflow.isolation import Progress
from archiver.workflow.names import PAYLOAD_FOLDER
from archiver.workflow.storage.lts import LongTermStorage, ShareAddress


class NotOnShareError(UserError):
    """The share does not hold the data set, or not in the form that was asked for."""

    code = "not-on-share"


@dataclass(frozen=True, slots=True)
class HeldDatablock:
    """A tar of a data set on the share; values are None where the share does not tell them."""

    archive_id: str
    packed_size: int | None
    """Bytes of the tar that is there; None where it is missing."""
    sha256: str | None = None
    """As the manifest records it."""
    files: int | None = None
    folders: int | None = None
    size: int | None = None
    """Payload, bytes."""
    index: str | None = None
    """Path of the list of its members on the share."""
    note: str = ""
    """What is odd about it."""


@dataclass(frozen=True, slots=True)
class Description:
    """A data set on the share."""

    holding: Holding
    info: dict[str, str]
    """Fields of `bag-info.txt`."""
    datablocks: tuple[HeldDatablock, ...]


def payload_of(share: LongTermStorage, pid: str) -> dict[str, str]:
    """SHA-256 by path in the bag, as its manifest records them; datablocks by number.

    Raises:
        DamagedError: there is no readable manifest.
    """
    path = f"{folder_of(pid)}/{MANIFEST}"
    try:
        recorded = read_manifest(read_tag_file(share, path).decode())
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing.") from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is not UTF-8.") from error
    return dict(sorted(recorded.items(), key=lambda item: (datablock_number(item[0]) or 0, item[0])))


def _datablock(share: LongTermStorage, pid: str, path: str, sha256: str) -> HeldDatablock:
    archive_id = f"{folder_of(pid)}/{path}"
    index = f"{folder_of(pid)}/{index_of(path)}"
    try:
        packed_size = share.size(archive_id)
        totals = read_totals(share, index)
    except (PermanentError, UnsafeNameError) as error:
        return HeldDatablock(archive_id, None, sha256, note=str(error))
    notes = []
    if packed_size is None:
        notes.append("missing")
    elif packed_size != totals.packed_size:
        notes.append(f"{totals.packed_size} bytes were written")
    if totals.sha256 != sha256:
        notes.append("its index records another SHA-256")
    return HeldDatablock(
        archive_id, packed_size, sha256, totals.files, totals.folders, totals.size, index, "; ".join(notes)
    )


def describe(progress: Progress, address: ShareAddress, pid: str) -> Description:
    """What the share says of a data set.

    Raises:
        NotOnShareError: it holds none of this pid.
        DamagedError: a published bag has no readable manifest.
    """
    share = address.open()
    holding = look_at(progress, share, pid).holding
    if holding is None:
        raise NotOnShareError(f"{pid} is not on the share at {address.root}. 'archiver lts list' shows what is.")
    if not holding.state.has_bag:
        folder = OLDER_PAYLOAD_FOLDER if holding.state is HoldingState.OLDER else PAYLOAD_FOLDER
        tars = tars_in(progress, share, f"{folder_of(pid)}/{folder}")
        return Description(holding, {}, tuple(HeldDatablock(path, size) for path, size in tars))
    info: dict[str, str] = {}
    with suppress(FileNotFoundError):  # the holding's note says so
        info = read_bag_info(read_tag_file(share, f"{folder_of(pid)}/{BAG_INFO}").decode("utf-8", "replace"))
    datablocks = []
    for path, sha256 in payload_of(share, pid).items():
        progress(0)
        datablocks.append(_datablock(share, pid, path, sha256))
    return Description(holding, info, tuple(datablocks))


def members_of(progress: Progress, address: ShareAddress, index: str) -> list[Member]:
    """Members of a datablock, as its index says; at most as many as fit one datablock.

    Raises:
        DamagedError: the index is missing or cannot be read.
    """
    try:
        with opened(address.open(), index) as reader:
            return [record for record in index_records(Lines(progress, reader)) if isinstance(record, Member)]
    except FileNotFoundError as error:
        raise DamagedError(f"{index} is missing.") from error
    except ValueError as error:
        raise DamagedError(f"{index} cannot be read: {error}") from error
