"""Small file systems of their own, for tests run by somebody who may mount."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


def _umount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _may_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        mounted = _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder)
        if mounted:
            _umount(Path(folder))
        return mounted


MAY_MOUNT = _may_mount()
"""Whether this process may mount file systems; without that, the same errors are only made to be raised."""


class SmallDisk:
    """A mounted file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def change(self, option: str) -> None:
        """Mount it anew with another option, as `size=1m` or `ro`."""
        if not _mount("-o", f"remount,{option}", str(self._folder)):
            raise OSError(f"{self._folder} cannot be mounted with {option}")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """A file system of this size (as `32k`) on a folder, as long as the block runs."""
    if not _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        raise OSError(f"nothing can be mounted on {folder}")
    try:
        yield SmallDisk(folder)
    finally:
        _umount(folder)


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _may_make_thin_disks() -> bool:
    if not (MAY_MOUNT and shutil.which("mkfs.ext4") and shutil.which("losetup")):
        return False
    return subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode == 0


MAY_MAKE_THIN_DISKS = _may_make_thin_disks()
"""Whether this process may mount an ext4 of its own, by way of a loop device."""


class ThinDisk:
    """An ext4 that believes to have more space than there is below it, as on a thin volume.

    What is written is taken; that it cannot be stored comes out when it is flushed. So it is with NFS, whose client
    keeps what was written until then.
    """

    def __init__(self, below: Path) -> None:
        self._below = below

    def fill(self, left: int) -> None:
        """Use up what lies below, but for so many bytes."""
        free = os.statvfs(self._below)
        size = free.f_bavail * free.f_frsize - left
        with (self._below / "filler").open("wb") as filler:
            filler.write(bytes(size))

    def make_space(self) -> None:
        """Give it back."""
        (self._below / "filler").unlink()


@contextmanager
def thin_disk(folder: Path, below: Path) -> Iterator[ThinDisk]:
    """Such a disk, mounted on `folder`, with 8 MiB of storage in the folder `below`, as long as the block runs."""
    with small_disk(below, "8m"):
        image = below / "image"
        with image.open("wb") as file:
            file.truncate(64 * 1024**2)
        # Without a journal: it would be flushed, and fail, at moments of its own.
        _run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard", "-N", "256", str(image))
        device = _run("losetup", "--find", "--show", str(image))
        try:
            if not _mount("-t", "ext4", "-o", "errors=continue", device, str(folder)):
                raise OSError(f"{device} cannot be mounted on {folder}")
            try:
                yield ThinDisk(below)
            finally:
                _umount(folder)
        finally:
            _run("losetup", "--detach", device)


def unmount(root: Path) -> None:
    """As if nothing was mounted on a folder any more: it is empty."""
    root.rename(root.with_suffix(".away"))
    root.mkdir()


def mount_again(root: Path) -> None:
    """What was there before is there again; what came in between is kept aside, under another name each time."""
    root.rename(Path(tempfile.mkdtemp(prefix="wrong-", dir=root.parent)) / root.name)
    root.with_suffix(".away").rename(root)
