"""How files are cut into parts, and what their composite checksum is."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.config.settings import MEBIBYTE
from archiver.local.ingestor.chunks import composite_checksum, is_sent_in_parts, parts_of


@pytest.mark.parametrize(
    ("size", "count", "in_parts"),
    [
        (0, 1, False),
        (1, 1, False),
        (5 * MEBIBYTE - 1, 1, False),
        (5 * MEBIBYTE, 1, True),
        (5 * MEBIBYTE + 1, 2, True),
        (10 * MEBIBYTE, 2, True),
        (10 * MEBIBYTE + 1, 3, True),
    ],
)
def test_a_file_is_sent_whole_below_one_chunk(size: int, count: int, in_parts: bool) -> None:
    assert len(parts_of(size, 5 * MEBIBYTE)) == count
    assert is_sent_in_parts(size, 5 * MEBIBYTE) is in_parts


@given(size=st.integers(0, 10_000), chunk=st.integers(1, 500))
def test_parts_cover_a_file_without_gap_or_overlap(size: int, chunk: int) -> None:
    parts = parts_of(size, chunk)
    position = 0
    for number, part in enumerate(parts, 1):
        assert (part.number, part.start) == (number, position)
        position += part.size
    assert position == size
    assert all(part.size == chunk for part in parts[:-1])


def test_a_composite_checksum_is_the_digest_of_digests() -> None:
    digests = [hashlib.sha256(part).digest() for part in (b"one", b"two")]
    expected = hashlib.sha256(digests[0] + digests[1]).digest()
    assert base64.b64decode(composite_checksum(digests)) == expected
