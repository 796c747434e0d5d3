"""An entry of a data set, and how the catalogue's text fields describe it."""

import re
import stat
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

DEFAULT_FILE_MODE = 0o644
DEFAULT_FOLDER_MODE = 0o755
_MODE_LETTERS = re.compile(r"(?P<flags>[A-Za-z?-]*)(?P<letters>(?:[r-][w-][xsS-]){2}[r-][w-][xtT-])[+.@]?")
_LONGEST_NUMBER = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""Anything before is no time of a file: Go, for one, writes the year 1 where a time was never set."""
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)


class EntryKind(StrEnum):
    """What an entry becomes in the tar."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    """A symlink at the instrument: its target's bytes were uploaded, so it becomes a regular file."""


class Entry(NamedTuple):
    """One member of a data set, as planned."""

    path: str
    """Relative to the data set, parts separated by `/`."""
    kind: EntryKind
    size: int
    """Bytes that will be read from the landing zone; 0 for folders."""
    mtime: int
    """Whole seconds since 1970, UTC."""
    mode: int
    """Permission bits."""
    etag: str
    """ETag of the object this entry is read from; empty for folders."""
    checksum: str
    """`algorithm:hex` as the catalogue knows it; empty where it knows none."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.kind is EntryKind.FOLDER


def _plausible(mode: int) -> bool:
    """Whether the owner may read, and nobody has a right that those before them lack."""
    owner, group, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    return bool(owner & 4) and group & ~owner == 0 and others & ~group == 0


def _number_to_mode(text: str) -> int | None:
    """Octal (`0644`, `100644`) or decimal (`420`, `33188`): whichever gives a mode that makes sense."""
    if len(text) > _LONGEST_NUMBER or not text.isascii() or not text.isdigit():
        return None
    readings = [int(text, 10)]
    if not set(text) & {"8", "9"}:
        readings.insert(0, int(text, 8))
    return next((mode for mode in readings if _plausible(mode)), readings[0])


def parse_mode(text: str | None) -> tuple[EntryKind, int | None]:
    """Kind and permission bits from the catalogue's `perm`: a Go (or `ls`) mode string, octal or decimal.

    The bits are None where the text says nothing usable.
    """
    text = (text or "").strip()
    spelled = _MODE_LETTERS.fullmatch(text)
    if spelled:
        flags = spelled["flags"]
        # `ls` shows a set-id or sticky bit in the place of an x; a capital one where the x is not set.
        bits = sum(1 << (8 - place) for place, letter in enumerate(spelled["letters"]) if letter not in "-ST")
        if "d" in flags:
            return EntryKind.FOLDER, bits
        return (EntryKind.LINK if flags[:1] in {"L", "l"} else EntryKind.FILE), bits
    mode = _number_to_mode(text.removeprefix("0o"))
    if mode is None:
        return EntryKind.FILE, None
    kind = EntryKind.FOLDER if stat.S_ISDIR(mode) else EntryKind.LINK if stat.S_ISLNK(mode) else EntryKind.FILE
    return kind, mode & 0o777


def parse_time(text: str | None) -> int | None:
    """Seconds since 1970 from an ISO 8601 time (UTC where it names no zone); None where it is no time of a file."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not _EARLIEST <= moment < _LATEST:
        return None
    return (moment - _EPOCH) // timedelta(seconds=1)


def mode_text(mode: int) -> str:
    """Permission bits of a file as the facility's tools write them: `-rw-r--r--`."""
    return stat.filemode(stat.S_IFREG | mode)
