"""The index of a datablock: which file lies where in the tar, with its checksum. Pure.

JSON lines beside the tar on the share: a line for each member, then one line of totals. It is what retrieval,
repair and a reader in thirty years go by, so it repeats nothing from memory: it is written while the bytes pass.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields

from archiver.workflow.datablocks.entries import Entry, EntryKind

INDEX_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder in a datablock."""

    path: str
    kind: str
    size: int
    mtime: int
    mode: int
    sha256: str
    """Of the content, lower-case hexadecimal; empty for folders."""
    offset: int
    """Where the content begins in the tar, bytes."""
    origin: str
    """What proved that the bytes are those of the instrument; `unproven` where nothing could."""
    etag: str
    """Of the object it was read from; lets a second job see that the landing zone holds the same."""

    @classmethod
    def of(cls, entry: Entry, sha256: str, offset: int, origin: str) -> "Member":
        """The member that an entry became, with what was found while its bytes passed."""
        return cls(
            entry.path,
            str(entry.kind),
            entry.size,
            entry.mtime,
            entry.mode,
            sha256,
            offset,
            origin,
            entry.etag,
        )

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.kind == EntryKind.FOLDER


_MEMBER_FIELDS = tuple(field.name for field in fields(Member))


@dataclass(frozen=True, slots=True)
class DatablockTotals:
    """A finished datablock as a whole."""

    archive_id: str
    index: int
    files: int
    folders: int
    size: int
    """Sum of the files' sizes, bytes."""
    packed_size: int
    """Length of the tar, bytes."""
    sha256: str
    xxh3_128: str
    unproven: int
    """Files whose origin nothing could prove."""
    format: int = INDEX_FORMAT


def member_line(member: Member) -> str:
    """One line of the index."""
    # asdict copies each value deeply, and takes four times as long as all else of a line.
    return json.dumps({name: getattr(member, name) for name in _MEMBER_FIELDS}) + "\n"


def totals_line(totals: DatablockTotals) -> str:
    """The last line of the index."""
    return json.dumps({"totals": asdict(totals)}) + "\n"


def read_index(lines: Iterable[str]) -> Iterator[Member | DatablockTotals]:
    """Members of an index, then its totals.

    Raises:
        ValueError: it is cut off, goes on after its end, or is of a format this version does not know.
    """
    ended = False
    for line in lines:
        if ended:
            raise ValueError("The index goes on after its totals.")
        record = json.loads(line)
        try:
            ended = "totals" in record
            if ended and record["totals"].get("format") != INDEX_FORMAT:
                raise ValueError(f"Not an index of format {INDEX_FORMAT}.")
            read = DatablockTotals(**record["totals"]) if ended else Member(**record)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"Not a line of an index: {line!r}") from error
        yield read
    if not ended:
        raise ValueError("The index is cut off.")
