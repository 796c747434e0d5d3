"""Having tars come back from tape, several at once, before anybody waits for their bytes.

Functions to be run in one and the same child process (`archiver.workflow.isolation`): what it asked for goes on coming
between two calls. Asking is reading the first and the last byte, which waits in the kernel until the file comes.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from archiver.config.settings import MEBIBYTE
from archiver.workflow.errors import ArchiverError
from archiver.workflow.isolation import Progress
from archiver.workflow.storage.lts import LongTermStorage, ShareAddress

log = structlog.get_logger(__name__)

SMALLEST_STUB = MEBIBYTE
"""Smaller files may lie in their inode, with no block of their own."""
_SLACK = MEBIBYTE
"""Bytes that may lie elsewhere than in blocks of their own."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A tar that is wanted, wherever its bytes are."""

    share: ShareAddress
    archive_id: str


_asked_for: dict[Recall, threading.Event] = {}
"""Each set once the bytes came, or an error in their place, which the one who reads will meet again."""


def ask_for(progress: Progress, wanted: Sequence[Recall]) -> list[Recall]:
    """Ask for those whose bytes are not all on the disk; those that are, or that came by now. Waits for none.

    To be called again until they are there. A file that is not there at all is left to whoever reads it, too.
    """
    here = []
    for each in wanted:
        progress(0)
        came = _asked_for.get(each)
        if came is None:
            share = each.share.open()
            if not _may_lie_on_tape(share, each.archive_id):
                here.append(each)
                continue
            came = _asked_for[each] = threading.Event()
            threading.Thread(target=_wait_for, args=(share, each.archive_id, came), name="recall", daemon=True).start()
        if came.is_set():
            here.append(each)
    return here


def _may_lie_on_tape(share: LongTermStorage, archive_id: str) -> bool:
    """A file system that compresses looks the same; there the bytes come at once."""
    size, at_hand = share.size(archive_id), share.bytes_at_hand(archive_id)
    return size is not None and at_hand is not None and size >= SMALLEST_STUB and at_hand < size - _SLACK


def _wait_for(share: LongTermStorage, archive_id: str, came: threading.Event) -> None:
    touch(share, archive_id)
    came.set()


def touch(share: LongTermStorage, archive_id: str) -> None:
    """Read the ends of a file, for as long as that takes; an error is only logged."""
    try:
        with share.open(archive_id) as reader:
            byte = memoryview(bytearray(1))
            reader.readinto(byte, 0)
            reader.readinto(byte, max(0, reader.size - 1))
    except (ArchiverError, FileNotFoundError) as error:
        log.warning("recall_failed", archive_id=archive_id, error=str(error))
