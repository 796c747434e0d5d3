"""Small file systems of their own, for tests run by somebody who may mount."""

import os
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
