"""The tar format of a datablock: POSIX pax, uncompressed, readable by any tar. Pure.

The standard library makes the headers; the bytes between them are streamed by the caller, so that they can be
hashed and their offsets recorded on the way.
"""

import tarfile

from archiver.workflow.datablocks.entries import Entry

BLOCK = tarfile.BLOCKSIZE
RECORD = tarfile.RECORDSIZE


def member_header(entry: Entry) -> bytes:
    """Header blocks of a member; its `entry.size` bytes of content and `padding` follow."""
    info = tarfile.TarInfo(entry.path)
    info.mtime = entry.mtime
    info.mode = entry.mode
    if entry.is_folder:
        info.type = tarfile.DIRTYPE
    else:
        info.size = entry.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """Zero bytes that fill the last block of a member's content."""
    return b"\0" * (-size % BLOCK)


def trailer(offset: int) -> bytes:
    """End of a tar whose members take `offset` bytes: two zero blocks, filled up to a whole record."""
    end = offset + 2 * BLOCK
    return b"\0" * (2 * BLOCK + -end % RECORD)
