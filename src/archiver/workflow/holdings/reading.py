"""Reading the share: bounded memory, past the page cache, and no trust in what is read.

Functions to be run in a child process (`archiver.workflow.isolation`), as all that touches the share.
"""

import hashlib
import os
import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import stamina

from archiver.config.settings import MEBIBYTE
from archiver.workflow.datablocks.entries import EntryKind
from archiver.workflow.datablocks.index import DatablockTotals, Member, read_index
from archiver.workflow.errors import DamagedError, PermanentError, TransientError
from archiver.workflow.isolation import Progress
from archiver.workflow.names import DATASETS_FOLDER, PAYLOAD_FOLDER, TAG_FOLDER
from archiver.workflow.storage.lts import (
    LongTermStorage,
    PosixShare,
    Reader,
    ShareAddress,
    initialise_share,
    lacks_identity,
)

PROOF_READ = "read by a client of the share, its page cache dropped before"
_CHUNK = 8 * MEBIBYTE
_LONGEST_LINE = MEBIBYTE
_LONGEST_TAG_FILE = 64 * MEBIBYTE
"""Of the tag files that are read as a whole; indexes and plans are read line by line."""
_TAIL = 64 * 1024
_ATTEMPTS = 5
_TIMES = range(-62_135_596_800, 253_402_300_800)
"""The years 1 to 9999, in seconds from 1970."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DATABLOCK = re.compile(re.escape(PAYLOAD_FOLDER) + r"/[^/]+_(\d{1,6})\.tar")


def connect(progress: Progress, root: Path) -> ShareAddress:
    """Address of whatever share is mounted at `root`: from then on no other is read.

    Raises:
        WrongShareError: none is mounted, or it was never initialised.
    """
    progress(0)
    return ShareAddress(root, PosixShare(root).identity())


def initialise(progress: Progress, root: Path) -> tuple[ShareAddress, bool]:
    """Give the share at `root` its identity; and whether it had none before.

    Raises:
        PermanentError: the folder does not exist or cannot be written to.
    """
    progress(0)
    is_new = lacks_identity(root)
    return ShareAddress(root, initialise_share(root)), is_new


def identity_so_far(progress: Progress, root: Path) -> UUID | None:
    """The identity of the share at `root`; None where `initialise` would give it one. Nothing is changed.

    Raises:
        PermanentError: the folder does not exist or cannot be written to.
    """
    progress(0)
    if not lacks_identity(root):
        return PosixShare(root).identity()
    if not os.access(root, os.W_OK | os.X_OK):
        raise PermanentError(f"{root} cannot be written to by user {os.getuid()}. Give that user the right.")
    return None


def is_sha256(text: object) -> bool:
    """Whether this is a SHA-256 as our files hold it: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def folder_of(pid: str) -> str:
    """Folder of a data set, relative to the root of the share; of older pids too, which no new one may look like.

    Whether it is a safe path is checked by the storage, as for every path.
    """
    return f"{DATASETS_FOLDER}/{pid}"


def datablock_number(payload_path: str) -> int | None:
    """Number of a datablock from its path in the bag; None where it does not name one of ours."""
    found = _DATABLOCK.fullmatch(payload_path)
    return None if found is None else int(found[1])


def index_of(payload_path: str) -> str:
    """Path of a datablock's index in the bag, from that of its tar."""
    return f"{TAG_FOLDER}/{payload_path.rpartition('/')[2]}.jsonl"


@contextmanager
def opened(share: LongTermStorage, path: str) -> Iterator[Reader]:
    """A file on the share; what can pass while opening it is tried again a few times.

    Raises:
        FileNotFoundError: it is not there.
        TransientError, PermanentError: it cannot be opened.
    """
    with ExitStack() as stack:
        for attempt in stamina.retry_context(on=TransientError, attempts=_ATTEMPTS, timeout=60, wait_max=10):
            with attempt:
                reader = stack.enter_context(share.open(path))
        yield reader


def chunks(
    reader: Reader, start: int = 0, length: int | None = None, chunk: int = _CHUNK
) -> Generator[memoryview, None, None]:
    """`length` bytes from `start` (to the end without it), read one chunk ahead; fewer only where the file ends.

    Each chunk is valid until the next is asked for.
    """
    end = reader.size if length is None else start + length
    if end - start <= chunk:
        view = memoryview(bytearray(max(0, end - start)))
        if count := reader.readinto(view, start):
            yield view[:count]
        return
    buffers = [memoryview(bytearray(chunk)), memoryview(bytearray(chunk))]

    def read(number: int) -> memoryview:
        offset = start + number * chunk
        view = buffers[number % 2][: max(0, min(chunk, end - offset))]
        return view[: reader.readinto(view, offset)]

    with ThreadPoolExecutor(1, "read-ahead") as pool:
        number, upcoming = 0, pool.submit(read, 0)
        while data := upcoming.result():
            number += 1
            upcoming = pool.submit(read, number)
            yield data


def read_tag_file(share: LongTermStorage, path: str) -> bytes:
    """All of a small tag file.

    Raises:
        FileNotFoundError: it is not there.
        DamagedError: it is far larger than any of ours.
    """
    with opened(share, path) as reader:
        if reader.size > _LONGEST_TAG_FILE:
            raise DamagedError(f"{path} has {reader.size} bytes; no tag file of ours has.")
        return b"".join(bytes(part) for part in chunks(reader))


class Lines:
    """The lines of a file, read in pieces; `sha256` is that of the file once all are read."""

    def __init__(self, progress: Progress, reader: Reader) -> None:
        self._progress = progress
        self._reader = reader
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all that was read so far, lower-case hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[str]:
        """The lines.

        Raises:
            ValueError: one is not UTF-8, or longer than any of ours.
        """
        rest = b""
        for data in chunks(self._reader, chunk=MEBIBYTE):
            self._digest.update(data)
            self._progress(0)
            *lines, rest = (rest + bytes(data)).split(b"\n")
            for line in lines:
                yield line.decode()
            if len(rest) > _LONGEST_LINE:
                raise ValueError("A line is too long.")
        if rest:
            yield rest.decode()


def _is_natural(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _sound(record: Member | DatablockTotals) -> Member | DatablockTotals:
    """`record`, when its values are of the kind they must be; what a path may do is not judged here."""
    if isinstance(record, Member):
        is_sound = (
            isinstance(record.path, str)
            and isinstance(record.kind, str)
            and record.kind in set(EntryKind)
            and _is_natural(record.size, record.mode, record.offset)
            and type(record.mtime) is int
            and record.mtime in _TIMES
            and (record.is_folder or is_sha256(record.sha256))
        )
    else:
        is_sound = (
            isinstance(record.archive_id, str)
            and _is_natural(record.index, record.files, record.folders, record.size, record.packed_size)
            and is_sha256(record.sha256)
        )
    if not is_sound:
        raise ValueError(f"A line of the index has values that cannot be: {record!r}")
    return record


def index_records(lines: Lines | list[str]) -> Iterator[Member | DatablockTotals]:
    """Members of an index, then its totals, each with values that can be.

    Raises:
        ValueError: it is no index, or cut off.
    """
    return (_sound(record) for record in read_index(lines))


def read_totals(share: LongTermStorage, path: str) -> DatablockTotals:
    """The totals of an index, from its end.

    Raises:
        DamagedError: it is missing or cannot be read.
    """
    try:
        with opened(share, path) as reader:
            start = max(0, reader.size - _TAIL)
            tail = b"".join(bytes(part) for part in chunks(reader, start))
        (totals,) = index_records([tail.rstrip(b"\n").rpartition(b"\n")[2].decode()])
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing.") from error
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    if not isinstance(totals, DatablockTotals):
        raise DamagedError(f"{path} is cut off.")
    return totals
