"""How a file is cut into parts, and the checksum of the whole. Pure."""

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from archiver.config.settings import MEBIBYTE

DEFAULT_CHUNK_BYTES = 128 * MEBIBYTE
SMALLEST_CHUNK_BYTES = 5 * MEBIBYTE
"""S3's limit for every part but the last."""


class Part(NamedTuple):
    """A piece of a file that is sent by one PUT."""

    number: int
    """From 1."""
    start: int
    """Offset in the file, bytes."""
    size: int
    """Bytes."""


def is_sent_in_parts(size: int, chunk_bytes: int) -> bool:
    """Whether a file is *completed*: from one chunk on, also when that chunk is all there is."""
    return size >= chunk_bytes


def parts_of(size: int, chunk_bytes: int) -> list[Part]:
    """The parts of a file of `size` bytes; one, even for an empty file."""
    count = max(1, -(-size // chunk_bytes))
    return [
        Part(number + 1, number * chunk_bytes, min(chunk_bytes, size - number * chunk_bytes)) for number in range(count)
    ]


def as_base64(digest: bytes) -> str:
    """A digest as S3's headers carry it."""
    return base64.b64encode(digest).decode("ascii")


def composite_checksum(digests: Iterable[bytes]) -> str:
    """Checksum of an object in parts: SHA-256 over the parts' SHA-256 in order, base64, without a number of parts."""
    return as_base64(hashlib.sha256(b"".join(digests)).digest())
