"""What a folder holds, as the facility's tools list it for the catalogue.

Folders are entries of their own, with a size. A symbolic link is an entry with the link's own size, time and
mode, while the bytes of its target are what is sent. Modes are written as Go writes them, times in whole seconds.

What has no bytes to send is left out of the list, and named: links that lead nowhere, links to folders (the
facility's tools list those and never send them, which no archive can accept), sockets, pipes, devices, and what
may not be read. So are names with a backslash, as the facility's tools have it: some S3 servers take it for a slash.
Those tools also leave out links that lead out of the folder, and names with a `*` or three blanks in a row; here
they stay in, for the archive can keep them.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from archiver.workflow.names import MAX_KEY_BYTES

LONGEST_PATH_BYTES = MAX_KEY_BYTES - 124
"""What a key leaves for the path of a file, after prefix and pid."""

_GO_FLAGS: tuple[tuple[str, Callable[[int], bool]], ...] = (
    ("d", stat.S_ISDIR),
    ("L", stat.S_ISLNK),
    ("D", lambda mode: stat.S_ISBLK(mode) or stat.S_ISCHR(mode)),
    ("p", stat.S_ISFIFO),
    ("S", stat.S_ISSOCK),
    ("u", lambda mode: bool(mode & stat.S_ISUID)),
    ("g", lambda mode: bool(mode & stat.S_ISGID)),
    ("c", stat.S_ISCHR),
    ("t", lambda mode: bool(mode & stat.S_ISVTX)),
)

Include = Callable[[str, bool], bool]
"""Whether an entry belongs to the data set, from its relative path and whether it is a folder."""


class ListedKind(StrEnum):
    """What an entry is at the instrument."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


class ListedEntry(NamedTuple):
    """An entry of the data set."""

    path: str
    """Relative to the data set, parts separated by `/`."""
    source: Path
    """Where it is now."""
    kind: ListedKind
    size: int
    """As listed: the folder's or the link's own size for those, bytes."""
    upload_bytes: int
    """What is sent, bytes; 0 for folders."""
    mtime: int
    """Whole seconds since 1970."""
    mode: str
    """As Go writes it: `-rw-r--r--`."""
    user: str
    group: str

    @property
    def is_uploaded(self) -> bool:
        """Whether it has bytes to send."""
        return self.kind is not ListedKind.FOLDER


class LeftOut(NamedTuple):
    """Something that cannot be archived."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be ingested."""

    entries: tuple[ListedEntry, ...]
    """In the order of the walk: each folder before what is in it."""
    left_out: tuple[LeftOut, ...] = ()

    @property
    def uploads(self) -> list[ListedEntry]:
        """Entries that are sent."""
        return [entry for entry in self.entries if entry.is_uploaded]

    @property
    def upload_bytes(self) -> int:
        """Bytes that are sent."""
        return sum(entry.upload_bytes for entry in self.entries)

    def with_file(self, path: str, file: Path) -> "Listing":
        """The same listing with one more file, wherever it lies; `path` is its name in the data set."""
        found, problem = _entry(path, file)
        if found is None:
            return replace(self, left_out=(*self.left_out, LeftOut(path, problem)))
        return replace(self, entries=(*self.entries, found))


def go_mode(mode: int) -> str:
    """`st_mode` as Go writes it: letters for what is special, or one dash, then nine of permissions."""
    flags = "".join(letter for letter, holds in _GO_FLAGS if holds(mode))
    permissions = "".join(letter if mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))
    return (flags or "-") + permissions


def list_folder(folder: Path, include: Include = lambda path, is_folder: True) -> Listing:
    """Everything below `folder` (which may itself be a link), in the order of names.

    Raises:
        OSError: the folder itself cannot be read.
    """
    entries: list[ListedEntry] = []
    left_out: list[LeftOut] = []
    for path, file in _walk(folder, include, left_out):
        found, problem = _entry(path, file)
        if found is not None:
            entries.append(found)
        else:
            left_out.append(LeftOut(path, problem))
    return Listing(tuple(entries), tuple(left_out))


def _walk(folder: Path, include: Include, left_out: list[LeftOut]) -> Iterator[tuple[str, Path]]:
    """Every entry below `folder`, folders before what is in them; those that cannot be read are left out."""
    waiting = [iter(sorted(os.listdir(folder)))]  # noqa: PTH208  # names, before they become paths
    above: list[str] = []
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
            if above:
                above.pop()
            continue
        path = "/".join([*above, name])
        file = folder / path
        is_folder = file.is_dir() and not file.is_symlink()
        if not include(path, is_folder):
            continue
        if not is_folder:
            yield path, file
            continue
        try:
            names = sorted(os.listdir(file))  # noqa: PTH208
        except OSError as error:
            left_out.append(LeftOut(path, f"the folder cannot be read: {error.strerror}"))
            continue
        yield path, file
        waiting.append(iter(names))
        above.append(name)


def _entry(path: str, file: Path) -> tuple[ListedEntry | None, str]:
    """The entry of a file, or None and why it is left out."""
    problem = _problem_of_name(path)
    if problem:
        return None, problem
    try:
        own = file.lstat()
        target = file.stat() if stat.S_ISLNK(own.st_mode) else own
    except OSError as error:
        is_link = file.is_symlink()
        return None, "the link leads nowhere" if is_link else f"it cannot be read: {error.strerror}"
    kind = ListedKind.LINK if stat.S_ISLNK(own.st_mode) else ListedKind.FILE
    if stat.S_ISDIR(own.st_mode):
        kind = ListedKind.FOLDER
    elif stat.S_ISDIR(target.st_mode):
        return None, "it is a link to a folder"
    elif not stat.S_ISREG(target.st_mode):
        return None, "it is no file but a socket, pipe or device"
    elif not os.access(file, os.R_OK):
        return None, "it may not be read"
    entry = ListedEntry(
        path=path,
        source=file,
        kind=kind,
        size=own.st_size,
        upload_bytes=0 if kind is ListedKind.FOLDER else target.st_size,
        mtime=own.st_mtime_ns // 10**9,
        mode=go_mode(own.st_mode),
        user=_user(own.st_uid),
        group=_group(own.st_gid),
    )
    return entry, ""


def _problem_of_name(path: str) -> str:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is no UTF-8"
    if "\\" in path:
        return "its name has a backslash"
    if len(encoded) > LONGEST_PATH_BYTES:
        return f"its path is longer than {LONGEST_PATH_BYTES} bytes"
    return ""


@cache
def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@cache
def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def rfc3339(seconds: int) -> str:
    """A time as Go writes it: in the machine's zone, whole seconds."""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
