"""Checksums: the same however the bytes arrive, and no disagreement passes unnoticed."""

import base64
import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.workflow.datablocks.digests import CompositeDigest, FileDigests, hex_of_base64, new_digest

PARTS = st.lists(st.binary(max_size=60), min_size=1, max_size=6)
CUTS = st.lists(st.integers(0, 300), max_size=12)


def _composite(parts: Sequence[bytes]) -> str:
    """As S3 defines it: SHA-256 over the parts' SHA-256, in base64."""
    return base64.b64encode(hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()).decode()


def _base64(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _pieces(content: bytes, cuts: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    return [content[start:end] for start, end in pairwise(bounds)]


def _measured(digests: FileDigests, pieces: Sequence[bytes]) -> FileDigests:
    for piece in pieces:
        for digest in digests.all():
            digest.update(memoryview(piece))
    return digests


@given(PARTS, CUTS)
def test_the_composite_is_what_s3_keeps_wherever_the_bytes_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    digest = CompositeDigest([len(part) for part in parts])
    for piece in _pieces(b"".join(parts), cuts):
        digest.update(piece)

    assert digest.base64() == _composite(parts)


def test_an_empty_file_uploaded_as_one_part_has_its_composite() -> None:
    digests = FileDigests(_composite([b""]) + "-1", (0,))

    assert digests.disagreement() == ""


@given(PARTS, st.binary(min_size=1, max_size=20))
def test_bytes_beyond_the_last_part_are_not_the_uploaded_ones(parts: list[bytes], more: bytes) -> None:
    digests = FileDigests(_composite(parts), tuple(len(part) for part in parts))

    assert _measured(digests, [*parts, more]).disagreement() == "the checksum stored at upload (composite SHA-256)"


@given(PARTS.filter(lambda parts: b"".join(parts) != b""))
def test_a_file_cut_short_is_not_the_uploaded_one(parts: list[bytes]) -> None:
    digests = FileDigests(_composite(parts), tuple(len(part) for part in parts))

    assert _measured(digests, [b"".join(parts)[:-1]]).disagreement()


@given(
    PARTS,
    CUTS,
    st.sampled_from(["", "single", "composite"]),
    st.sampled_from(["", "md5", "sha1", "sha256", "sha512", "blake2b"]),
)
def test_the_right_bytes_agree_with_every_checksum(parts: list[bytes], cuts: list[int], stored: str, alg: str) -> None:
    content = b"".join(parts)
    digests = FileDigests(
        {"": "", "single": _base64(content), "composite": f"{_composite(parts)}-{len(parts)}"}[stored],
        tuple(len(part) for part in parts) if stored == "composite" else (),
        f"{alg}:{hashlib.new(alg, content).hexdigest()}" if alg else "",
    )

    _measured(digests, _pieces(content, cuts))

    assert digests.disagreement() == ""
    assert digests.sha256 == hashlib.sha256(content).hexdigest()


@given(st.binary(min_size=1, max_size=200), st.integers(0), CUTS)
def test_one_flipped_bit_disagrees_with_each_kind_of_checksum(content: bytes, position: int, cuts: list[int]) -> None:
    flipped = bytearray(content)
    flipped[position % len(content)] ^= 1 << position % 8
    half = len(content) // 2
    cases = {
        "the checksum stored at upload (SHA-256)": FileDigests(_base64(content)),
        "the checksum stored at upload (composite SHA-256)": FileDigests(
            _composite([content[:half], content[half:]]), (half, len(content) - half)
        ),
        "the catalogue's checksum (sha256)": FileDigests(listed=f"sha256:{hashlib.sha256(content).hexdigest()}"),
        "the catalogue's checksum (md5)": FileDigests(listed=f"md5:{hashlib.md5(content).hexdigest()}"),
    }

    for told, digests in cases.items():
        assert _measured(digests, _pieces(bytes(flipped), cuts)).disagreement() == told


def test_the_catalogue_is_heard_even_where_the_upload_was_right() -> None:
    digests = FileDigests(_base64(b"content"), listed="md5:" + "0" * 32)

    assert _measured(digests, [b"content"]).disagreement() == "the catalogue's checksum (md5)"


@pytest.mark.parametrize(
    ("digests", "origin"),
    [
        (FileDigests(), "unproven"),
        (FileDigests("x"), "upload-sha256"),
        (FileDigests("x", (1,)), "upload-sha256-composite"),
        (FileDigests(listed="md5:0"), "catalogue-md5"),
        (FileDigests("x", (1,), "sha1:0"), "upload-sha256-composite+catalogue-sha1"),
    ],
)
def test_the_origin_names_what_proved_it(digests: FileDigests, origin: str) -> None:
    assert digests.origin == origin


@given(st.binary(max_size=200))
def test_base64_and_hexadecimal_name_the_same_checksum(content: bytes) -> None:
    assert hex_of_base64(_base64(content)) == hashlib.sha256(content).hexdigest()


def test_the_fast_digest_has_its_published_value() -> None:
    digest = new_digest("xxh3_128")
    digest.update(b"")

    assert digest.hexdigest() == "99aa06d3014798d86001c324468d497f"


def test_an_unknown_algorithm_is_an_error() -> None:
    with pytest.raises(ValueError, match="crc1"):
        new_digest("crc1")
