"""What came back against what was given: every byte, time and mode."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from archiver.config.settings import MEBIBYTE
from archiver.local.ingestor.listing import ListedEntry, ListedKind, Listing

_PERMISSIONS = 0o777
"""What the catalogue's modes are archived as; setuid and its like are not."""

Progress = Callable[[int, int], None]
"""Told how many more bytes and files are compared."""


class Difference(NamedTuple):
    """Something that is not as it was."""

    path: str
    what: str


def compare(listing: Listing, folder: Path, progress: Progress = lambda count, files: None) -> list[Difference]:
    """How `folder` differs from what was listed, as that is now; nothing when it came back whole.

    Files must have the same bytes, permissions and modification time (to the second), folders the same
    permissions. A link came back as a file with the bytes of its target and the link's own time.
    """
    found = []
    for entry in listing.entries:
        found += _differences(entry, folder / entry.path, progress)
    listed = {entry.path for entry in listing.entries}
    found += [Difference(path, "was not given") for path in _everything(folder) if path not in listed]
    return found


def _differences(entry: ListedEntry, returned: Path, progress: Progress) -> list[Difference]:
    try:
        given, got = entry.source.lstat(), returned.lstat()
    except FileNotFoundError as error:
        what = "did not come back" if error.filename == str(returned) else "vanished from where it was given"
        return [Difference(entry.path, what)]
    problems = []
    if entry.kind is ListedKind.FOLDER:
        if not stat.S_ISDIR(got.st_mode):
            return [Difference(entry.path, "was a folder and is none")]
    elif not stat.S_ISREG(got.st_mode):
        return [Difference(entry.path, "was a file and is none")]
    else:
        progress(0, 1)
        position = _first_difference(entry.source, returned, progress)
        if position is not None:
            problems.append(f"differs from byte {position:,} on")
        before, after = given.st_mtime_ns // 10**9, got.st_mtime_ns // 10**9
        if before != after:
            problems.append(f"has another modification time: {after} instead of {before}")
    if entry.kind is not ListedKind.LINK:
        before, after = given.st_mode & _PERMISSIONS, got.st_mode & _PERMISSIONS
        if before != after:
            problems.append(f"has another mode: {after:04o} instead of {before:04o}")
    return [Difference(entry.path, problem) for problem in problems]


def _first_difference(given: Path, returned: Path, progress: Progress) -> int | None:
    """Where two files begin to differ, bytes from the beginning; None when they do not."""
    position = 0
    with given.open("rb") as one, returned.open("rb") as other:
        for left, right in _pairs(one, other):
            if left != right:
                pairs = enumerate(zip(left, right, strict=False))
                return position + next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
            position += len(left)
            progress(len(left), 0)
    return None


def _pairs(one: BinaryIO, other: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        left, right = one.read(MEBIBYTE), other.read(MEBIBYTE)
        if not left and not right:
            return
        yield left, right


def _everything(folder: Path) -> Iterator[str]:
    """Paths of all that lies below `folder`."""
    for above, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            yield os.path.relpath(os.path.join(above, name), folder)  # noqa: PTH118  # may be many
