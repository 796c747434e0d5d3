"""Checks of the shares of the long-term storage and of the working folder, to be made where flows run."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from archiver.cli.checks.findings import Finding, Group
from archiver.cli.checks.place import ASK_FLOWS, has_flows
from archiver.config.settings import GIGABYTE, ArchivingSettings, LedgerSettings, LtsSettings
from archiver.config.sources import UnreadableSecretFileError, read_environment
from archiver.workflow.errors import ArchiverError, PermanentError
from archiver.workflow.holdings.reading import connect
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.second_copies import identity_of_copy
from archiver.workflow.storage.lts import ShareAddress

_FOLDER = "archiver-doctor"
_CONTENT = b"archiver doctor\n" * 4096
_LOW_GB = 1
# For the first share, and for one of LTS_COPIES.
_FIRST_USE = ("run", "copy")
_ITS_PLACE = ("this archive lives on", "at this place of LTS_COPIES belongs")


def check_share(*, may_write: bool) -> Iterator[Finding]:
    """Each share, the first one and those of copies: mounted, the archive's own, with room, and able to do what
    publishing rests on.
    """
    settings = LtsSettings()
    group = Group("share")
    if not has_flows():
        yield group.skipped("mount", ASK_FLOWS)
    else:
        yield from _check(group, 0, settings.lts_root_folder, settings, may_write=may_write)
    for number, root in enumerate(settings.lts_copies, start=1):
        yield from _check(Group(f"copy {number}"), number, root, settings, may_write=may_write)


def _check(group: Group, number: int, root: Path, settings: LtsSettings, *, may_write: bool) -> Iterator[Finding]:
    """A share by its place: 0 for the first one, else its place in LTS_COPIES."""
    with ChildProcess(min(settings.lts_stall_timeout_s, 60)) as child:
        try:
            address = child.call(connect, None, root)
        except ArchiverError as error:
            yield group.bad("identity", str(error))
            return
        yield _identity(group, number, address)
        yield group.check("free space", lambda: _space(child.call(free_bytes, None, address), settings))
        if may_write:
            yield group.check("write, fsync, rename, read back", lambda: child.call(use_share, None, address))
        else:
            yield group.skipped("write, fsync, rename, read back", "not tried, because nothing shall be written")


def _identity(group: Group, number: int, address: ShareAddress) -> Finding:
    mounted = str(address.identity)
    try:
        with Ledger.open(LedgerSettings()) as ledger:
            places = [
                ledger.remembered(LTS_IDENTITY),
                *(identity_of_copy(ledger, each) for each in range(1, number + 1)),
            ]
    except (ArchiverError, UnreadableSecretFileError) as error:
        return group.warning("identity", f"{mounted} is mounted; whether it is ours is unknown: {error}")
    *earlier, known = places
    if known is None and mounted in earlier:
        told = f"{mounted} is mounted at {address.root}, and is in use as the first share or for another copy. "
        return group.bad("identity", f"{told}Mount a share of its own there: archiver lts init --root")
    if known is None:
        return group.good("identity", f"{mounted}, to become the archive's with its first {_FIRST_USE[number > 0]}")
    if known != mounted:
        return group.bad(
            "identity",
            f"{mounted} is mounted at {address.root}; {_ITS_PLACE[number > 0]} {known}. Mount the right share.",
        )
    return group.good("identity", f"{known}, the archive's")


def free_bytes(progress: Progress, address: ShareAddress) -> tuple[int, int]:
    """Free and total bytes of the share (to be run in a child process)."""
    progress(0)
    return address.open().free_bytes()


def _space(space: tuple[int, int], settings: LtsSettings) -> str:
    free, total = space
    told = f"{free / GIGABYTE:,.1f} of {total / GIGABYTE:,.1f} GB free"
    floor = total * settings.lts_free_space_percentage / 100
    if free <= floor:
        raise PermanentError(
            f"{told}; {floor / GIGABYTE:,.1f} GB must stay free (LTS_FREE_SPACE_PERCENTAGE), so nothing can be "
            "archived. Make room, or enlarge the share."
        )
    return told


def use_share(progress: Progress, address: ShareAddress) -> str:
    """Does with a file what archiving does with a datablock, and removes it (to be run in a child process).

    Raises:
        ArchiverError: the share cannot do it.
    """
    share = address.open()
    path = f"{_FOLDER}/{uuid.uuid4()}"
    try:
        with share.create(path, uuid.uuid4().hex) as writer:
            writer.write(_CONTENT)
            writer.commit()
        progress(0)
        back = memoryview(bytearray(len(_CONTENT)))
        with share.open(path) as reader:
            count = reader.readinto(back, 0)
        if back[:count] != _CONTENT:
            raise PermanentError("The share gave back something else than was written. Do not archive on it.")
        owner = (address.root / path).stat()
    finally:
        share.remove_unsealed(path)
        with contextlib.suppress(OSError):
            (address.root / _FOLDER).rmdir()
    return f"as it must be; files belong to {owner.st_uid}:{owner.st_gid}"


def check_scratch() -> Iterator[Finding]:
    """The working folder of flows: there, writable, with room.

    In containers each run is given one of its own. What serves them all the time has none, on a read-only root.
    """
    group = Group("scratch")
    if read_environment("ARCHIVER_SCRATCH_FOLDER", os.environ) is None:
        yield group.skipped("folder", "ARCHIVER_SCRATCH_FOLDER is not set here. Run the doctor where flows run, too.")
        return
    folder = ArchivingSettings().archiver_scratch_folder
    if folder.is_dir() and not folder.is_mount() and os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield group.skipped("folder", f"Nothing is mounted at {folder}, on a read-only file system: no flow runs here.")
        return
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield group.bad("folder", f"{folder} is no folder we may write to. Mount or make it, and give us the right.")
        return
    yield _room(group, folder)


def _room(group: Group, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / GIGABYTE
    if free < _LOW_GB:
        return group.bad("folder", f"{folder} has {free:.2f} GB free; lists of large data sets need more. Make room.")
    return group.good("folder", f"{folder}, {free:,.1f} GB free")
