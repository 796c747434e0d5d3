"""Checksums taken while bytes stream past. Pure.

SHA-256 is the record, in the bag and in the ledger. XXH3-128 compares what was written with what is read back:
it costs nearly nothing, and nobody has to defend against forgery between two reads of one run.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import xxhash

Bytes = bytes | bytearray | memoryview


class Digest(Protocol):
    """What hashlib and xxhash have in common."""

    def update(self, data: Bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The checksum of all bytes so far, lower-case hexadecimal."""


def new_digest(algorithm: str) -> Digest:
    """A digest by name: anything hashlib guarantees, or `xxh3_128`."""
    if algorithm == "xxh3_128":
        return xxhash.xxh3_128()
    return hashlib.new(algorithm, usedforsecurity=False)


class CompositeDigest:
    """The checksum S3 keeps of a multipart upload: SHA-256 over the SHA-256 of each part."""

    def __init__(self, part_sizes: Sequence[int]) -> None:
        self._remaining = list(reversed(part_sizes))
        self._parts = hashlib.sha256()
        self._part = hashlib.sha256()
        self._end_full_parts()

    def update(self, data: Bytes, /) -> None:
        """Feed the next bytes, cut at the boundaries of the parts. Bytes beyond the last part spoil the composite."""
        view = memoryview(data)
        while view and self._remaining:
            taken = min(len(view), self._remaining[-1])
            self._part.update(view[:taken])
            view = view[taken:]
            self._remaining[-1] -= taken
            self._end_full_parts()
        self._parts.update(view)

    def _end_full_parts(self) -> None:
        """Also of parts without bytes: an empty file is uploaded as one."""
        while self._remaining and not self._remaining[-1]:
            self._remaining.pop()
            self._parts.update(self._part.digest())
            self._part = hashlib.sha256()

    def base64(self) -> str:
        """The composite, without the `-N` that S3 appends."""
        return base64.b64encode(self._parts.digest()).decode()


def hex_of_base64(checksum: str) -> str:
    """`checksum` as S3 gives it, in the form everything else uses."""
    return base64.b64decode(checksum).hex()


@dataclass
class FileDigests:
    """Every checksum a file is measured by on its way into the tar."""

    stored_sha256: str = ""
    """Base64 of what S3 stored at upload; composite where `part_sizes` are given; empty where none is."""
    part_sizes: tuple[int, ...] = ()
    listed: str = ""
    """`algorithm:hex` of the catalogue; empty where it has none."""
    _sha256: Digest = field(default_factory=hashlib.sha256)
    _composite: CompositeDigest | None = None
    _listed: Digest | None = None

    def __post_init__(self) -> None:
        if self.stored_sha256 and self.part_sizes:
            self._composite = CompositeDigest(self.part_sizes)
        algorithm = self.listed.partition(":")[0]
        if algorithm and algorithm != "sha256":
            self._listed = new_digest(algorithm)

    def all(self) -> list[Digest | CompositeDigest]:
        """The digests to feed with the file's bytes, in order."""
        return [each for each in (self._sha256, self._composite, self._listed) if each is not None]

    @property
    def sha256(self) -> str:
        """Of all bytes so far, lower-case hexadecimal."""
        return self._sha256.hexdigest()

    def disagreement(self) -> str:
        """Which known checksum the bytes do not have; empty when they have all of them."""
        if self._composite is not None:
            if self._composite.base64() != self.stored_sha256.partition("-")[0]:
                return "the checksum stored at upload (composite SHA-256)"
        elif self.stored_sha256 and hex_of_base64(self.stored_sha256) != self.sha256:
            return "the checksum stored at upload (SHA-256)"
        algorithm, _, expected = self.listed.partition(":")
        if algorithm and (self._listed.hexdigest() if self._listed else self.sha256) != expected:
            return f"the catalogue's checksum ({algorithm})"
        return ""

    @property
    def origin(self) -> str:
        """What proved that these are the bytes the instrument wrote."""
        proofs = []
        if self.stored_sha256:
            proofs.append("upload-sha256-composite" if self._composite else "upload-sha256")
        if self.listed:
            proofs.append("catalogue-" + self.listed.partition(":")[0])
        return "+".join(proofs) or "unproven"
